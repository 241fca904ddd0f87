"""The one order of results: by score in float32, best first, ties by document id descending.

This is trec_eval's order, so that a list cut here and the metrics computed on it agree.
"""

from collections.abc import Sequence
from typing import SupportsFloat

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import DataError


def rank_documents(
    scores: Float[np.ndarray, "C"] | Sequence[SupportsFloat], ids: Sequence[str], k: int
) -> Int[np.ndarray, "K"]:
    """Positions in `ids` of the `k` best documents, best first; all of them if there are fewer.

    Raises:
        DataError: a score is NaN or infinite; the error names its document.
    """
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        compared = np.asarray(scores, dtype=np.float32)
    for position in np.flatnonzero(~np.isfinite(compared)).tolist():
        raise DataError(f"document {ids[position]!r} has the score {compared[position]}")
    candidates = np.arange(len(ids)) if k >= len(ids) else _at_least_kth(compared, k)
    places = tie_break_order([ids[position] for position in candidates.tolist()])
    return candidates[best_positions(compared[candidates], places, k)]


def tie_break_order(ids: Sequence[str]) -> Int[np.ndarray, "C"]:
    """The place of each id in descending order of its UTF-8 bytes, from 0.

    Code points sort as UTF-8 bytes do, so strings compare as they are.
    """
    order = sorted(range(len(ids)), key=ids.__getitem__, reverse=True)
    places = np.empty(len(ids), dtype=np.int64)
    places[order] = np.arange(len(ids))
    return places


def best_positions(
    scores: Float[np.ndarray, "C"], places: Int[np.ndarray, "C"], k: int
) -> Int[np.ndarray, "K"]:
    """Positions of the `k` highest scores, best first; of equal ones, the lower place first."""
    kept = np.arange(scores.size) if k >= scores.size else _at_least_kth(scores, k)
    order = np.lexsort((places[kept], -scores[kept]))
    return kept[order[:k]]


def _at_least_kth(scores: Float[np.ndarray, "C"], k: int) -> Int[np.ndarray, "K"]:
    """Positions of all scores that are not below the k-th best: k of them, and more with ties."""
    if k < 1:
        return np.arange(0)
    threshold = np.partition(scores, scores.size - k)[scores.size - k]
    return np.flatnonzero(scores >= threshold)
