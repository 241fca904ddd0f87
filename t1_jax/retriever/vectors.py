"""From the vectors of thoughts to that of a query, and to unit length."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from t1_jax.errors import DataError
from t1_jax.generate import Thought


def mean_vectors(drawn: Sequence[Sequence[Thought]], embed_dim: int) -> Float[np.ndarray, "B D"]:
    """The normalized mean of each query's vectors (O1-Embedder, arXiv:2502.07555)."""
    if not drawn:
        return np.zeros((0, embed_dim), np.float32)
    means = np.stack([np.mean([t.embedding for t in thoughts], axis=0) for thoughts in drawn])
    return normalized(means)


def normalized(vectors: Float[np.ndarray, "*B D"]) -> Float[np.ndarray, "*B D"]:
    """The vectors in float32 and of unit length.

    Raises:
        DataError: a vector is zero or not finite.
    """
    vectors = np.asarray(vectors, np.float32)
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    if not np.isfinite(vectors).all() or (norms == 0).any():
        raise DataError("a vector is zero or not finite, so it has no direction")
    return vectors / norms
