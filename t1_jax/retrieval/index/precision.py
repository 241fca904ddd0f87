"""The number formats of stored embeddings, and Matryoshka truncation.

Only the direction of an embedding counts, so a stored row needs no scale: reading it normalizes it.
In int8 the largest component of a row becomes ±127, which uses the whole range for every row.
"""

from typing import Literal, TypeAlias

import ml_dtypes
import numpy as np
from jaxtyping import Float32

from t1_jax.errors import ConfigError

StoredPrecision: TypeAlias = Literal["float32", "float16", "bfloat16", "int8"]

STORED_DTYPES: dict[StoredPrecision, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
    "int8": np.dtype(np.int8),
}
"""Bytes per component: 4, 2, 2 and 1."""


def quantize(
    units: Float32[np.ndarray, "B E"], precision: StoredPrecision = "float32"
) -> np.ndarray:
    """Unit vectors [B, E] as they are stored; `dequantize` is the inverse up to rounding."""
    if precision == "int8":
        largest = np.abs(units).max(axis=1, keepdims=True)
        return np.rint(units * (127 / largest)).astype(np.int8)
    return units.astype(STORED_DTYPES[precision])


def dequantize(stored: np.ndarray) -> Float32[np.ndarray, "B E"]:
    """Unit vectors in float32 of stored rows [B, E]; float32 rows are returned as they are."""
    if stored.dtype == np.float32:
        return np.asarray(stored)
    rows = stored.astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    return rows


def truncate(
    units: Float32[np.ndarray, "B E"], dimensions: int | None
) -> Float32[np.ndarray, "B e"]:
    """The first `dimensions` of each row at unit length (arXiv:2205.13147); None keeps all.

    Raises:
        ConfigError: fewer than 1 dimension, or more than there are.
    """
    if dimensions is None or dimensions == units.shape[1]:
        return units
    check_truncation(dimensions, units.shape[1])
    rows = units[:, :dimensions].astype(np.float32)
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return rows / np.where(norms == 0, 1, norms)


def check_truncation(dimensions: int | None, available: int) -> None:
    """Raises ConfigError unless `dimensions` is None or from 1 to `available`."""
    if dimensions is not None and not 1 <= dimensions <= available:
        raise ConfigError(
            f"truncate_dim is {dimensions}, and an embedding has {available} dimensions",
            hint=f"choose 1 to {available}",
        )
