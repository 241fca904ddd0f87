"""`DecoderConfig` from the metadata and tensor names of a GGUF file."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.hub.gguf_file import GGUFFile
from t1_jax.hub.gguf_source import ROPE_FACTORS, rope_factors
from t1_jax.hub.json_files import short_repr
from t1_jax.model import DecoderConfig, RopeConfig, inverse_frequencies

_ARCHITECTURES = ("llama", "qwen2", "qwen3")

# Keys below the architecture's name. Any other key raises an error.
_READ = frozenset({
    "attention.head_count", "attention.head_count_kv", "attention.key_length",
    "attention.layer_norm_rms_epsilon", "attention.value_length", "block_count", "context_length",
    "embedding_length", "feed_forward_length", "rope.dimension_count", "rope.freq_base",
    "rope.scale_linear", "rope.scaling.attn_factor", "rope.scaling.factor",
    "rope.scaling.original_context_length", "rope.scaling.type", "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow", "vocab_size",
})  # fmt: skip
# Pooling of embedding models; T1 pools at <emb_token>.
_NO_INFLUENCE = frozenset({"pooling_type"})
# Keys of some converters, each with the one value that does not change the output.
_ONLY: Mapping[str, Any] = {
    "attention.causal": True,
    "attention.sliding_window": 0,
    "expert_count": 0,
    "expert_used_count": 0,
    "rope.scaling.finetuned": False,
    "tensor_data_layout": "Meta AI original pth",
    "use_parallel_residual": False,
}
_UNKNOWN = object()


def decoder_config_from_gguf(file: GGUFFile) -> DecoderConfig:
    """The decoder of a GGUF file with the architecture llama, qwen2 or qwen3.

    Tensor names determine whether there are biases and an untied head, as in llama.cpp.

    Raises:
        UnsupportedError: an unknown architecture, or unsupported keys; names them.
        ConfigError: a key is missing or of the wrong type.
    """
    architecture = file.metadata.get("general.architecture")
    if architecture not in _ARCHITECTURES:
        raise _unsupported(
            f"{file.path}: architecture {architecture!r} is not read from GGUF; "
            f"known: {', '.join(_ARCHITECTURES)}"
        )
    prefix = f"{architecture}."
    fields = {
        key.removeprefix(prefix): value
        for key, value in file.metadata.items()
        if key.startswith(prefix)
    }
    _reject_unsupported(file, fields)
    heads = _integer(fields, "attention.head_count")
    if heads <= 0:
        raise ConfigError(f"GGUF key attention.head_count must be positive, got {heads}")
    width = _integer(fields, "embedding_length")
    table = file.tensors.get("token_embd.weight")
    head_dim, context = _head_dim(fields, width // heads), _integer(fields, "context_length")
    return DecoderConfig(
        family=str(architecture),
        vocab_size=table.shape[0] if table else _integer(fields, "vocab_size"),
        embed_dim=width,
        num_layers=_integer(fields, "block_count"),
        num_heads=heads,
        num_kv_heads=_integer(fields, "attention.head_count_kv", heads),
        head_dim=head_dim,
        mlp_dim=_integer(fields, "feed_forward_length"),
        norm_eps=_single(_number(fields, "attention.layer_norm_rms_epsilon")),
        rope=_rope(fields, rope_factors(file), head_dim, context),
        max_positions=context,
        qkv_bias="blk.0.attn_q.bias" in file.tensors,
        out_bias="blk.0.attn_output.bias" in file.tensors,
        qk_norm=architecture == "qwen3",
        mlp_bias="blk.0.ffn_gate.bias" in file.tensors,
        tie_embeddings="output.weight" not in file.tensors,
    )


def _unsupported(message: str) -> UnsupportedError:
    return UnsupportedError(
        message, hint="import the Hugging Face folder of the same model instead"
    )


def _reject_unsupported(file: GGUFFile, fields: Mapping[str, Any]) -> None:
    unsupported = [
        f"{key} = {value!r}"
        for key, value in fields.items()
        if key not in _READ and key not in _NO_INFLUENCE and value != _ONLY.get(key, _UNKNOWN)
    ]
    if file.metadata.get("split.count", 1) not in (0, 1):
        unsupported.append(f"split.count = {file.metadata['split.count']} (one file of several)")
    if unsupported:
        raise _unsupported(f"{file.path} has unsupported keys: {', '.join(unsupported)}")


def _rope(
    fields: Mapping[str, Any], factors: np.ndarray | None, head_dim: int, context: int
) -> RopeConfig:
    """Rotary embeddings with llama.cpp's scaling; a missing type means `linear`, as there.

    `factors` is the tensor `rope_freqs`, [head_dim / 2], with divisors of the frequencies.
    """
    theta = _single(_number(fields, "rope.freq_base", 10_000.0))
    kind = fields.get("rope.scaling.type", "linear")
    # Older converters write rope.scale_linear; 0 means no scaling.
    factor = _number(fields, "rope.scaling.factor", _number(fields, "rope.scale_linear", 0.0))
    factor = _single(factor) or 1.0
    attention = _single(_number(fields, "rope.scaling.attn_factor", 1.0))
    if kind not in ("none", "linear", "yarn"):
        raise _unsupported(
            f"rope.scaling.type {kind!r} is not read from GGUF; known: none, linear, yarn"
        )
    if factors is not None:
        if kind != "none" and factor != 1:
            raise _unsupported(
                f"the tensor {ROPE_FACTORS} together with rope.scaling.factor {factor} is not read"
            )
        return _rope_of_factors(factors, theta, head_dim)
    if kind == "yarn":
        # llama.cpp multiplies cos and sin by 0.1 ln(factor) + 1, the default of YaRN.
        mscale = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
        return RopeConfig(
            theta=theta,
            kind=kind,
            factor=factor,
            original_max_positions=_integer(
                fields, "rope.scaling.original_context_length", context
            ),
            beta_fast=_single(_number(fields, "rope.scaling.yarn_beta_fast", 32.0)),
            beta_slow=_single(_number(fields, "rope.scaling.yarn_beta_slow", 1.0)),
            attention_factor=mscale * attention,
        )
    if attention != 1:
        raise UnsupportedError(f"rope.scaling.attn_factor {attention} is read for yarn only")
    if kind == "none" or factor == 1:
        return RopeConfig(theta=theta)
    return RopeConfig(theta=theta, kind="linear", factor=factor)


def _rope_of_factors(factors: np.ndarray, theta: float, head_dim: int) -> RopeConfig:
    """The `llama3` scaling (Llama 3.1 and later) that gives these divisors.

    llama.cpp's converter writes the divisors instead of the parameters. All of Meta's models share
    the parameters except `factor`, the divisor of the longest wavelength.
    """
    plain = RopeConfig(theta=theta)
    scaled = plain
    if factors.shape == (head_dim // 2,) and np.isfinite(factors).all() and factors[-1] >= 1:
        scaled = RopeConfig(
            theta=theta,
            kind="llama3",
            factor=_single(float(factors[-1])),
            original_max_positions=8192,
            low_freq_factor=1.0,
            high_freq_factor=4.0,
        )
        expected = inverse_frequencies(plain, head_dim) / inverse_frequencies(scaled, head_dim)
        if np.allclose(factors, expected, rtol=1e-4, atol=0):
            return scaled if factors.max() > 1 else plain
    raise _unsupported(
        f"the tensor {ROPE_FACTORS} does not hold the divisors of Llama 3.1's scaling"
    )


def _head_dim(fields: Mapping[str, Any], default: int) -> int:
    """The head dimension of queries, keys, values and rotary embeddings."""
    keys = ("attention.key_length", "attention.value_length", "rope.dimension_count")
    sizes = {key: _integer(fields, key, default) for key in keys if key in fields}
    if len({*sizes.values()}) > 1:
        raise UnsupportedError(f"heads of different sizes are not supported: {sizes}")
    return next(iter(sizes.values()), default)


def _integer(fields: Mapping[str, Any], key: str, default: int | None = None) -> int:
    """An integer; some files repeat it for each layer."""
    value = fields.get(key, default)
    if isinstance(value, list) and value and all(item == value[0] for item in value):
        value = value[0]
    if isinstance(value, bool) or not isinstance(value, int):
        raise ConfigError(f"GGUF key {key} must be one integer, got {short_repr(value)}")
    return value


def _number(fields: Mapping[str, Any], key: str, default: float | None = None) -> float:
    value = fields.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ConfigError(f"GGUF key {key} must be one number, got {short_repr(value)}")
    return float(value)


def _single(value: float) -> float:
    """The shortest decimal of a float32 value: 9.9999997e-06 -> 1e-05."""
    return float(f"{value:.7g}")
