"""The order of results: by score in float32, descending; ties by document id, descending.

This is trec_eval's order, so a ranking that is cut here gives the same metrics there.
"""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import DataError


def rank_documents(
    scores: Float[np.ndarray, "C"] | Sequence[SupportsFloat], ids: Sequence[str], k: int
) -> Int[np.ndarray, "K"]:
    """Positions in `ids` of the top `k` documents, best first; all if there are fewer.

    Raises:
        DataError: a score is NaN or infinite; names the document.
    """
    with np.errstate(over="ignore"):  # an overflow becomes inf, which raises below
        scores_f32 = np.asarray(scores, dtype=np.float32)
    for position in np.flatnonzero(~np.isfinite(scores_f32)).tolist():
        raise DataError(f"document {ids[position]!r} has the score {scores_f32[position]}")
    candidates = np.arange(len(ids)) if k >= len(ids) else _at_least_kth(scores_f32, k)
    tie_order = tie_break_order([ids[position] for position in candidates.tolist()])
    return candidates[top_k_positions(scores_f32[candidates], tie_order, k)]


def tie_break_order(ids: Sequence[str]) -> Int[np.ndarray, "C"]:
    """Rank of each id, from 0, in descending order of UTF-8 bytes (or of code points, equally)."""
    order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)
    ranks = np.empty(len(ids), dtype=np.int64)
    ranks[order] = np.arange(len(ids))
    return ranks


def top_k_positions(
    scores: Float[np.ndarray, "C"], tie_order: Int[np.ndarray, "C"], k: int
) -> Int[np.ndarray, "K"]:
    """Positions of the `k` highest scores, best first; ties in ascending `tie_order`."""
    candidates = np.arange(scores.size) if k >= scores.size else _at_least_kth(scores, k)
    order = np.lexsort((tie_order[candidates], -scores[candidates]))
    return candidates[order[:k]]


def _at_least_kth(scores: Float[np.ndarray, "C"], k: int) -> Int[np.ndarray, "K"]:
    """Positions of all scores not below the k-th best: k, or more with ties."""
    if k < 1:
        return np.arange(0)
    threshold = np.partition(scores, scores.size - k)[scores.size - k]
    return np.flatnonzero(scores >= threshold)
