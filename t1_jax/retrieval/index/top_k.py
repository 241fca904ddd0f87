"""The best k rows of each query, collected from blocks of scores that come one after the other."""

import numpy as np
from jaxtyping import Float32, Int

from t1_jax.errors import DataError


class TopK:
    """Scores and rows of the best k rows that each of B queries has seen so far.

    Attributes:
        scores: [B, K] in descending order; −inf beyond a query's last row.
        rows: [B, K]; −1 beyond a query's last row.
    """

    def __init__(self, n_queries: int, k: int, tie_order: Int[np.ndarray, "C"]) -> None:
        """Starts without rows.

        Args:
            n_queries: B.
            k: rows to keep for each query; K is at most the number of rows of the index.
            tie_order: rank of each row of the index among rows of equal score.

        Raises:
            DataError: `k` is below 1.
        """
        if k < 1:
            raise DataError(f"k must be at least 1, got {k}")
        width = min(k, len(tie_order))
        self.scores = np.full((n_queries, width), -np.inf, dtype=np.float32)
        self.rows = np.full((n_queries, width), -1, dtype=np.int64)
        self._tie_order = tie_order

    def add_block(
        self, first_query: int, first_row: int, scores: Float32[np.ndarray, "b n"]
    ) -> None:
        """Adds the scores of consecutive queries with consecutive rows; −inf is never kept."""
        k, (count, width) = self.rows.shape[1], scores.shape
        queries = slice(first_query, first_query + count)
        floor = self.scores[queries, -1]
        if width > k and np.isneginf(floor).any():
            floor = np.maximum(floor, np.partition(scores, width - k, axis=1)[:, width - k])
        query, column = np.nonzero(scores >= floor[:, None])
        values = scores[query, column]
        kept = values > -np.inf
        self._merge(queries, query[kept], values[kept], first_row + column[kept])

    def add_candidates(
        self,
        first_query: int,
        scores: Float32[np.ndarray, "b n"],
        rows: Int[np.ndarray, "b n"],
    ) -> None:
        """Adds other rows for each of consecutive queries; scores of −inf are never kept."""
        query, column = np.nonzero(scores > -np.inf)
        queries = slice(first_query, first_query + len(scores))
        self._merge(queries, query, scores[query, column], rows[query, column])

    def _merge(
        self,
        queries: slice,
        query: Int[np.ndarray, "n"],
        scores: Float32[np.ndarray, "n"],
        rows: Int[np.ndarray, "n"],
    ) -> None:
        """Merges new rows, each with the number of its query within `queries`."""
        if not len(query):
            return
        before, column = np.nonzero(self.rows[queries] >= 0)
        query = np.concatenate([before, query])
        scores = np.concatenate([self.scores[queries][before, column], scores])
        rows = np.concatenate([self.rows[queries][before, column], rows])
        order = np.lexsort((self._tie_order[rows], -scores, query))
        query, scores, rows = query[order], scores[order], rows[order]
        place = np.arange(len(query)) - np.searchsorted(query, query)
        best = place < self.rows.shape[1]
        self.scores[queries][query[best], place[best]] = scores[best]
        self.rows[queries][query[best], place[best]] = rows[best]
