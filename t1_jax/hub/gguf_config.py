"""The decoder config that a GGUF file's metadata and tensor names describe."""

from collections.abc import Mapping
from typing import Any

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.gguf_file import GGUFFile
from t1_jax.model import DecoderConfig, RopeConfig

_ARCHITECTURES = ("llama", "qwen2")

# Keys below the architecture's name. What is not listed here is refused.
_READ = frozenset(
    {
        "attention.head_count",
        "attention.head_count_kv",
        "attention.key_length",
        "attention.layer_norm_rms_epsilon",
        "attention.value_length",
        "block_count",
        "context_length",
        "embedding_length",
        "feed_forward_length",
        "rope.dimension_count",
        "rope.freq_base",
        "rope.scaling.factor",
        "rope.scaling.original_context_length",
        "rope.scaling.type",
        "vocab_size",
    }
)
# Keys that only some converters write; the value at which they do nothing is accepted.
_ONLY: Mapping[str, Any] = {
    "expert_count": 0,
    "expert_used_count": 0,
    "rope.scaling.finetuned": False,
    "tensor_data_layout": "Meta AI original pth",
    "use_parallel_residual": False,
}
_ROPE_FACTORS = "rope_freqs.weight"


def decoder_config_from_gguf(file: GGUFFile) -> DecoderConfig:
    """The decoder of a GGUF file of the architectures llama and qwen2.

    Whether there are biases and a head of its own is told by the tensors, as in llama.cpp.

    Raises:
        UnsupportedError: an unknown architecture, or keys that are not honoured, by name.
        ConfigError: a key is missing or of the wrong type.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise UnsupportedError(
            f"{file.path}: architecture {architecture!r} is not read from GGUF; "
            f"known: {', '.join(_ARCHITECTURES)}",
            mend="import the Hugging Face folder of the same model instead",
        )
    prefix = f"{architecture}."
    fields = {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix)
    }
    _refuse_unhonoured(file, fields)
    heads = _whole(fields, "attention.head_count")
    width = _whole(fields, "embedding_length")
    table = file.tensors.get("token_embd.weight")
    return DecoderConfig(
        family=str(architecture),
        vocab_size=table.shape[0] if table else _whole(fields, "vocab_size"),
        embed_dim=width,
        num_layers=_whole(fields, "block_count"),
        num_heads=heads,
        num_kv_heads=_whole(fields, "attention.head_count_kv", heads),
        head_dim=_head_dim(fields, width // heads),
        mlp_dim=_whole(fields, "feed_forward_length"),
        norm_eps=_single(_number(fields, "attention.layer_norm_rms_epsilon")),
        rope=_rope(fields),
        max_positions=_whole(fields, "context_length"),
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        out_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
        tie_embeddings="output.weight" not in file.tensors,
    )


def _refuse_unhonoured(file: GGUFFile, fields: Mapping[str, Any]) -> None:
    refused = [
        f"{key} = {value!r}"
        for key, value in fields.items()
        if key not in _READ and not (key in _ONLY and value == _ONLY[key])
    ]
    if _ROPE_FACTORS in file.tensors:
        refused.append(f"tensor {_ROPE_FACTORS} (the scaled rope of Llama 3.1 and later)")
    if file.metadata.get("split.count", 1) not in (0, 1):
        refused.append(f"split.count = {file.metadata['split.count']} (one file of several)")
    if refused:
        raise UnsupportedError(
            f"{file.path} has keys that are not honoured: {', '.join(refused)}",
            mend="import the Hugging Face folder of the same model instead",
        )


def _rope(fields: Mapping[str, Any]) -> RopeConfig:
    """llama.cpp scales rotary embeddings in the ways `linear` and `yarn`."""
    theta = _single(_number(fields, "rope.freq_base"))
    kind = fields.get("rope.scaling.type", "none")
    if kind == "none":
        return RopeConfig(theta=theta)
    if kind == "linear":
        return RopeConfig(theta=theta, kind=kind, factor=_number(fields, "rope.scaling.factor"))
    raise UnsupportedError(
        f"rope.scaling.type {kind!r} is not read from GGUF; known: none, linear",
        mend="import the Hugging Face folder of the same model instead",
    )


def _head_dim(fields: Mapping[str, Any], default: int) -> int:
    """The one head dimension that queries, keys, values and rotation share."""
    keys = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    found = {key: _whole(fields, key, default) for key in keys if key in fields}
    if len({*found.values()}) > 1:
        raise UnsupportedError(f"heads of several sizes are not implemented: {found}")
    return next(iter(found.values()), default)


def _whole(fields: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"GGUF key {key} must be one whole number, got {value!r}")
    return value


def _number(fields: Mapping[str, Any], key: str) -> float:
    value = fields.get(key)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f"GGUF key {key} must be one number, got {value!r}")
    return float(value)


def _single(value: float) -> float:
    """The short decimal that was rounded to float32 in the file: 9.9999997e-06 -> 1e-05."""
    return float(f"{value:.7g}")
