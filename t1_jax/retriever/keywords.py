"""Keyword arguments of `T1.encode_query`, and those that sentence-transformers has too."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, TypedDict, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Num

from t1_jax.errors import ConfigError
from t1_jax.generate import Choices, SamplingParams
from t1_jax.retriever.encoder import l2_normalize

Precision: TypeAlias = Literal["float32", "int8", "uint8", "binary", "ubinary"]
Embeddings: TypeAlias = np.ndarray | jax.Array
"""One embedding, [D], or several, [B, D]; packed bits have D / 8 columns."""


class _CommonOptions(TypedDict, total=False):
    prompt_name: str | None
    prompt: str | None
    batch_size: int | None
    show_progress_bar: bool
    truncate_dim: int | None
    precision: Precision
    normalize_embeddings: bool


class DocumentOptions(_CommonOptions, total=False):
    """Keyword arguments of `T1.encode_document`, which documents them."""

    document_ids: Sequence[str] | None


class QueryOptions(_CommonOptions, total=False):
    """Keyword arguments of `T1.encode_query`, which documents them."""

    n: int
    max_thought_tokens: int | None
    think: bool
    thoughts: Sequence[str] | None
    candidates: Sequence[Sequence[str]] | None
    choices: Choices | None
    task: str | None
    instruction: str | None
    query_ids: Sequence[str] | None
    sampling: SamplingParams | None
    convert_to_numpy: bool


@dataclass(frozen=True, kw_only=True)
class OutputFormat:
    """Dimensions, precision and array type of returned embeddings.

    Attributes:
        truncate_dim: number of leading dimensions to keep; None keeps all.
        precision: `float32`; `int8`, where each vector is scaled so that its largest component is
            127, which keeps cosines; `uint8`, which is `int8` plus 128; `binary` or `ubinary`, the
            signs packed into int8 or uint8 as in sentence-transformers, for Hamming distances.
        normalize_embeddings: whether truncated vectors are normalized again.
        convert_to_numpy: whether to return a NumPy array; otherwise a JAX array.

    Raises:
        ConfigError: an unknown precision, or fewer than 1 dimension.
    """

    truncate_dim: int | None = None
    precision: Precision = "float32"
    normalize_embeddings: bool = True
    convert_to_numpy: bool = True

    def __post_init__(self) -> None:
        if self.precision not in get_args(Precision):
            raise ConfigError(
                f"unknown precision {self.precision!r}",
                hint=f"use one of {', '.join(get_args(Precision))}",
            )
        if self.truncate_dim is not None and self.truncate_dim < 1:
            raise ConfigError(f"truncate_dim must be at least 1, got {self.truncate_dim}")

    def apply(self, vectors: Float[np.ndarray, "*B D"]) -> Any:
        """Unit vectors in this form: a NumPy array, or a JAX array if one was asked for.

        Raises:
            ConfigError: `truncate_dim` exceeds the dimensions, or does not fill whole bytes.
            DataError: the kept dimensions are all zero.
        """
        if self.truncate_dim is not None:
            if self.truncate_dim > vectors.shape[-1]:
                raise ConfigError(
                    f"truncate_dim is {self.truncate_dim}, and the model has {vectors.shape[-1]} "
                    "dimensions",
                    hint=f"set it to at most {vectors.shape[-1]}",
                )
            vectors = vectors[..., : self.truncate_dim]
            if self.normalize_embeddings:
                vectors = l2_normalize(vectors)
        quantized = _quantize(vectors, self.precision)
        return quantized if self.convert_to_numpy else jnp.asarray(quantized)


def task_and_instruction(
    *,
    task: str | None = None,
    instruction: str | None = None,
    prompt_name: str | None = None,
    prompt: str | None = None,
) -> tuple[str | None, str | None]:
    """Task and instruction, of which `prompt_name` and `prompt` are sentence-transformers' names.

    Raises:
        ConfigError: both names of one of them are given.
    """
    for name, value, synonym, other in (
        ("task", task, "prompt_name", prompt_name),
        ("instruction", instruction, "prompt", prompt),
    ):
        if value is not None and other is not None:
            raise ConfigError(f"{name} and {synonym} mean the same", hint="give only one of them")
    return prompt_name if task is None else task, prompt if instruction is None else instruction


def _quantize(vectors: Float[np.ndarray, "*B D"], precision: Precision) -> Num[np.ndarray, "*B E"]:
    if precision == "float32":
        return vectors
    if precision in ("int8", "uint8"):
        largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=np.finfo(np.float32).tiny)
        levels = np.rint(127 * vectors / largest).astype(np.int16)
        return levels.astype(np.int8) if precision == "int8" else (levels + 128).astype(np.uint8)
    if vectors.shape[-1] % 8:
        raise ConfigError(
            f"{precision} packs 8 dimensions into a byte, and there are {vectors.shape[-1]}",
            hint="set truncate_dim to a multiple of 8",
        )
    bits = np.packbits(vectors > 0, axis=-1)
    return bits if precision == "ubinary" else (bits.astype(np.int16) - 128).astype(np.int8)
