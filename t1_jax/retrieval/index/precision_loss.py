"""What a number format or Matryoshka truncation costs: the top 10 against that of float32."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from t1_jax.retrieval.index.precision import StoredPrecision, dequantize, quantize, truncate
from t1_jax.retrieval.index.top_k import TopK

_SAMPLE = 256


@dataclass(frozen=True, kw_only=True)
class PrecisionLoss:
    """The top 10 of stored vectors against those of all dimensions in float32.

    Attributes:
        precision_recall_at_10: mean part of float32's top 10 that is in the top 10.
        precision_ndcg_at_10: nDCG@10 with float32's top 10 as relevance labels of 10 to 1.
        precision_queries: sample queries: documents, each without itself.
    """

    precision_recall_at_10: float
    precision_ndcg_at_10: float
    precision_queries: int


def measure_precision_loss(
    blocks: Callable[[], Iterable[Float32[np.ndarray, "_ E"]]],
    precision: StoredPrecision,
    truncate_dim: int | None = None,
) -> PrecisionLoss:
    """Compares exact searches with and without a number format, over blocks of unit vectors.

    Args:
        blocks: yields all vectors, from the start at each call; one block is in memory at a time.
        precision: number format.
        truncate_dim: dimensions; None keeps all.
    """
    count = sum(len(block) for block in blocks())
    chosen = np.sort(np.random.default_rng(0).permutation(count)[:_SAMPLE])
    queries = np.concatenate(list(_rows_of(blocks(), chosen)))
    short = truncate(queries, truncate_dim)
    tie_order = np.arange(count)
    full, stored = (TopK(len(chosen), 10, tie_order) for _ in range(2))
    first = 0
    for block in blocks():
        units = dequantize(quantize(truncate(block, truncate_dim), precision))
        inside = np.flatnonzero((chosen >= first) & (chosen < first + len(block)))
        for best, scores in ((full, queries @ block.T), (stored, short @ units.T)):
            scores[inside, chosen[inside] - first] = -np.inf
            best.add_block(0, first, scores)
        first += len(block)
    return _compared(full.rows, stored.rows)


def _rows_of(
    blocks: Iterable[Float32[np.ndarray, "_ E"]], rows: np.ndarray
) -> Iterable[Float32[np.ndarray, "_ E"]]:
    first = 0
    for block in blocks:
        yield np.asarray(block[rows[(rows >= first) & (rows < first + len(block))] - first])
        first += len(block)


def _compared(full: np.ndarray, stored: np.ndarray) -> PrecisionLoss:
    """Recall and nDCG of the rows [B, 10] against those of float32; −1 is padding."""
    recalls, ndcgs = [], []
    discounts = 1 / np.log2(np.arange(full.shape[1]) + 2)
    for expected, found in zip(full.tolist(), stored.tolist(), strict=True):
        expected = [row for row in expected if row >= 0]
        if not expected:
            continue
        grades = {row: len(expected) - place for place, row in enumerate(expected)}
        gains = np.array([grades.get(row, 0) for row in found])
        ideal = np.array(sorted(grades.values(), reverse=True))
        recalls.append(np.count_nonzero(gains) / len(expected))
        ndcgs.append(gains @ discounts / (ideal @ discounts[: len(ideal)]))
    return PrecisionLoss(
        precision_recall_at_10=float(np.mean(recalls)) if recalls else 1.0,
        precision_ndcg_at_10=float(np.mean(ndcgs)) if ndcgs else 1.0,
        precision_queries=len(full),
    )
