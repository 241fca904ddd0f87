"""Exact search in NumPy, the reference for all other back ends."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.errors import DataError
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.protocol import Index, SearchResult
from t1_jax.retrieval.ranking import top_k_positions

_SCORE_BYTES = 1 << 27
"""Bytes of scores in memory, which bounds the number of queries per matrix product."""


class NumpyIndex(Index):
    """Exact search: one matrix product for each block of queries."""

    kind: ClassVar[str] = "numpy"

    def __init__(self, table: EmbeddingTable) -> None:
        self.table = table

    def search(
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.normalize_queries(queries)
        result = empty_result(len(units), k, len(self.ids))
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        for start, scores in self._score_blocks(units):
            for query, row_scores in enumerate(scores, start):
                row_scores[excluded_rows[query][excluded_rows[query] >= 0]] = -np.inf
                rows = np.arange(len(row_scores))
                fill_result(result, query, row_scores, rows, self.table.tie_break_order)
        return result

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """See `Index.rank_of`."""
        units = self.table.normalize_queries(queries)
        targets = self.table.pad_row_lists(rows.tolist(), len(units), "rows")
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        ranks = np.full(rows.shape, -1, dtype=np.int64)
        for start, scores in self._score_blocks(units):
            for query, row_scores in enumerate(scores, start):
                target_scores = row_scores[targets[query]]
                row_scores[excluded_rows[query][excluded_rows[query] >= 0]] = -np.inf
                for i in np.flatnonzero(targets[query] >= 0):
                    at_least = np.count_nonzero(row_scores >= target_scores[i])
                    itself = row_scores[targets[query, i]] >= target_scores[i]
                    ranks[query, i] = 1 + at_least - int(itself)
        return ranks

    def _score_blocks(
        self, units: Float32[np.ndarray, "B E"]
    ) -> Iterator[tuple[int, Float32[np.ndarray, "b C"]]]:
        """Yields each block's first query position, and its cosines with all rows."""
        size = max(1, _SCORE_BYTES // (4 * len(self.ids)))
        for start in range(0, len(units), size):
            yield start, units[start : start + size] @ self.vectors.T


def empty_result(n_queries: int, k: int, n_rows: int) -> SearchResult:
    """A result without rows, [B, K] with K = min(k, number of rows of the index).

    Raises:
        DataError: `k` is below 1.
    """
    if k < 1:
        raise DataError(f"k must be at least 1, got {k}")
    width = min(k, n_rows)
    return SearchResult(
        scores=np.full((n_queries, width), -np.inf, dtype=np.float32),
        rows=np.full((n_queries, width), -1, dtype=np.int64),
    )


def fill_result(
    result: SearchResult,
    query: int,
    scores: Float32[np.ndarray, "C"],
    rows: Int[np.ndarray, "C"],
    tie_order: Int[np.ndarray, "rows"],
) -> None:
    """Writes the top k of the candidates to one query of `result`, without scores of −inf.

    The candidates have `scores` and `rows`; `tie_order` is that of the whole table.
    """
    best = top_k_positions(scores, tie_order[rows], result.rows.shape[1])
    best = best[scores[best] > -np.inf]
    result.scores[query, : len(best)] = scores[best]
    result.rows[query, : len(best)] = rows[best]
