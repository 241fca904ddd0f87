"""Weights of a GGUF file with the names and row order of Hugging Face."""

import re
from collections.abc import Collection

import ml_dtypes
import numpy as np
from einops import rearrange
from gguf import quants
from gguf.constants import GGMLQuantizationType
from jaxtyping import Float

from t1_jax.errors import WeightsError
from t1_jax.hub.gguf_file import GGUFFile, GGUFTensor

# Formats that need no dequantization.
_PLAIN = {
    GGMLQuantizationType.F32: np.dtype(np.float32),
    GGMLQuantizationType.F16: np.dtype(np.float16),
    GGMLQuantizationType.BF16: np.dtype(ml_dtypes.bfloat16),
}
# Formats that the `gguf` package dequantizes, to float32.
_QUANTIZED = tuple(GGMLQuantizationType[name] for name in (
    "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S",
    "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS",
))  # fmt: skip

ROPE_FACTORS = "rope_freqs.weight"
"""Tensor with the divisors of the rotary frequencies; it becomes part of the config."""

# GGUF name -> Hugging Face name; {} is the layer.
_NAMES = {
    "token_embd": "model.embed_tokens",
    "output_norm": "model.norm",
    "output": "lm_head",
    "blk.{}.attn_norm": "model.layers.{}.input_layernorm",
    "blk.{}.attn_q": "model.layers.{}.self_attn.q_proj",
    "blk.{}.attn_k": "model.layers.{}.self_attn.k_proj",
    "blk.{}.attn_v": "model.layers.{}.self_attn.v_proj",
    "blk.{}.attn_q_norm": "model.layers.{}.self_attn.q_norm",
    "blk.{}.attn_k_norm": "model.layers.{}.self_attn.k_norm",
    "blk.{}.attn_output": "model.layers.{}.self_attn.o_proj",
    "blk.{}.ffn_norm": "model.layers.{}.post_attention_layernorm",
    "blk.{}.ffn_gate": "model.layers.{}.mlp.gate_proj",
    "blk.{}.ffn_up": "model.layers.{}.mlp.up_proj",
    "blk.{}.ffn_down": "model.layers.{}.mlp.down_proj",
}


class GGUFSource:
    """A `TensorSource` over one GGUF file of the architectures llama, qwen2 and qwen3.

    Files of the architecture llama interleave the rows of each rotary pair in q and k; `read`
    restores the Hugging Face order (all first halves, then all second halves).

    Raises:
        WeightsError: tensors with unsupported block formats; names all of them.
    """

    def __init__(self, file: GGUFFile) -> None:
        _reject_unknown_formats(file)
        self._file = file
        self._stored = {hf_name(name): name for name in file.tensors if name != ROPE_FACTORS}
        self._bytes = np.memmap(file.path, np.uint8, mode="r")
        architecture = file.metadata.get("general.architecture")
        self._rotary_heads = _rotary_heads(file) if architecture == "llama" else {}

    def names(self) -> Collection[str]:
        """Hugging Face names of all tensors; an unknown tensor keeps its GGUF name."""
        return self._stored.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the tensor in the Hugging Face layout."""
        return self._tensor(name).shape

    def dtype(self, name: str) -> np.dtype:
        """The stored dtype for F32, F16 and BF16; float32 for block formats."""
        return _PLAIN.get(self._tensor(name).kind, np.dtype(np.float32))

    def read(self, name: str) -> np.ndarray:
        """The tensor's values, dequantized."""
        tensor = self._tensor(name)
        raw = self._bytes[tensor.start : tensor.start + tensor.n_bytes]
        if tensor.kind in _PLAIN:
            values = np.frombuffer(raw, self.dtype(name)).reshape(tensor.shape)
        else:
            rows = raw.reshape(*tensor.shape[:-1], -1)
            values = quants.dequantize(np.asarray(rows), tensor.kind)
        match = re.search(r"\.self_attn\.([qk])_proj\.", name)
        if match and self._rotary_heads:
            heads = self._rotary_heads[match[1]]
            return rearrange(values, "(n h two) ... -> (n two h) ...", n=heads, two=2)
        return values

    def location(self, name: str) -> str:
        """`tensor GGUF-NAME in FILE`."""
        return f"tensor {self._stored[name]} in {self._file.path}"

    def _tensor(self, name: str) -> GGUFTensor:
        return self._file.tensors[self._stored[name]]


def rope_factors(file: GGUFFile) -> Float[np.ndarray, " half"] | None:
    """The tensor `rope_freqs`, or None if the file lacks it.

    Raises:
        WeightsError: it is not stored in float32.
    """
    tensor = file.tensors.get(ROPE_FACTORS)
    if tensor is None:
        return None
    if tensor.kind != GGMLQuantizationType.F32:
        raise WeightsError(f"{file.path}: tensor {ROPE_FACTORS} is {tensor.kind.name}, not F32")
    values = np.memmap(file.path, np.uint8, mode="r")[tensor.start : tensor.start + tensor.n_bytes]
    return np.frombuffer(values, np.float32).reshape(tensor.shape)


def hf_name(gguf_name: str) -> str:
    """The Hugging Face name of a GGUF tensor; unknown names are returned unchanged."""
    stem, _, kind = gguf_name.rpartition(".")
    layer = re.match(r"blk\.(\d+)\.", stem)
    number = layer[1] if layer else ""
    pattern = _NAMES.get(stem.replace(f"blk.{number}.", "blk.{}.", 1) if layer else stem)
    return gguf_name if pattern is None else f"{pattern.format(number)}.{kind}"


def _reject_unknown_formats(file: GGUFFile) -> None:
    known = {*_PLAIN, *_QUANTIZED}
    unknown = [f"{n} ({t.kind.name})" for n, t in file.tensors.items() if t.kind not in known]
    if unknown:
        raise WeightsError(
            f"{file.path} has tensors in unsupported block formats: {', '.join(unknown)}; "
            f"known: {', '.join(kind.name for kind in (*_PLAIN, *_QUANTIZED))}",
            hint="use a file quantized as Q8_0, Q4_K_M or similar",
        )


def _rotary_heads(file: GGUFFile) -> dict[str, int]:
    """Number of heads of the q and k projections."""
    metadata = file.metadata
    heads = metadata.get("llama.attention.head_count")
    kv_heads = metadata.get("llama.attention.head_count_kv", heads)
    if not isinstance(heads, int) or not isinstance(kv_heads, int):
        raise WeightsError(
            f"{file.path}: llama.attention.head_count and head_count_kv must be integers, "
            f"got {heads!r} and {kv_heads!r}"
        )
    return {"q": heads, "k": kv_heads}
