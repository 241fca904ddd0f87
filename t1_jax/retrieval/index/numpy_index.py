"""Exact search in NumPy, the reference for all other back ends.

The rows are read block by block, once per search, so an index may be a memory map that is larger
than memory.
"""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.protocol import Index, SearchResult
from t1_jax.retrieval.index.top_k import TopK

_BLOCK_BYTES = 1 << 26
"""Bytes of a block of rows, and of the scores of a block of queries with it."""


class NumpyIndex(Index):
    """Exact search: one matrix product for each block of rows and block of queries."""

    kind: ClassVar[str] = "numpy"

    def __init__(self, table: EmbeddingTable) -> None:
        self.table = table

    def search(
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.normalize_queries(queries)
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        best = TopK(len(units), k, self.table.tie_break_order)
        for first_row, block in self._row_blocks():
            for first_query, scores in _score_blocks(units, block):
                _exclude(scores, excluded_rows[first_query:], first_row)
                best.add_block(first_query, first_row, scores)
        return SearchResult(scores=best.scores, rows=best.rows)

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """See `Index.rank_of`; an index of several blocks is read twice."""
        units = self.table.normalize_queries(queries)
        targets = self.table.pad_row_lists(rows.tolist(), len(units), "rows")
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        target_scores = np.full(rows.shape, -np.inf, np.float32)
        ahead = np.zeros(rows.shape, np.int64)
        # A target's score and those it is compared with come from equal matrix products, so that
        # equal vectors have equal scores.
        for first_row, block in self._row_blocks():
            for first_query, scores in _score_blocks(units, block):
                query, place, column = _in_block(targets[first_query:], scores, first_row)
                target_scores[first_query + query, place] = scores[query, column]
        for first_row, block in self._row_blocks():
            for first_query, scores in _score_blocks(units, block):
                of_block = slice(first_query, first_query + len(scores))
                query, place, column = _in_block(targets[first_query:], scores, first_row)
                itself = scores[query, column]
                _exclude(scores, excluded_rows[first_query:], first_row)
                for position in range(rows.shape[1]):
                    at_least = scores >= target_scores[of_block, position, None]
                    ahead[of_block, position] += np.count_nonzero(at_least, axis=1)
                is_counted = scores[query, column] == itself
                ahead[first_query + query, place] -= is_counted
        return np.where(rows >= 0, 1 + ahead, -1)

    def _row_blocks(self) -> Iterator[tuple[int, Float32[np.ndarray, "n E"]]]:
        """Yields the first row of each block, and its unit vectors."""
        size = max(1, _BLOCK_BYTES // (4 * self.table.width))
        for start in range(0, len(self.ids), size):
            yield start, self.table.block(start, start + size)


def _score_blocks(
    units: Float32[np.ndarray, "B E"], block: Float32[np.ndarray, "n E"]
) -> Iterator[tuple[int, Float32[np.ndarray, "b n"]]]:
    """Yields the first query of each block of queries, and its cosines with the rows."""
    size = max(1, _BLOCK_BYTES // (4 * len(block)))
    for start in range(0, len(units), size):
        yield start, units[start : start + size] @ block.T


def _in_block(
    rows: Int[np.ndarray, "_ R"], scores: Float32[np.ndarray, "b n"], first_row: int
) -> tuple[Int[np.ndarray, "m"], Int[np.ndarray, "m"], Int[np.ndarray, "m"]]:
    """Query, place in the list, and column in `scores` of the rows that lie in a block."""
    columns = rows[: len(scores)] - first_row
    query, place = np.nonzero(
        (rows[: len(scores)] >= 0) & (columns >= 0) & (columns < scores.shape[1])
    )
    return query, place, columns[query, place]


def _exclude(
    scores: Float32[np.ndarray, "b n"], excluded: Int[np.ndarray, "_ X"], first_row: int
) -> None:
    """Sets the scores of excluded rows to −inf."""
    query, _, column = _in_block(excluded, scores, first_row)
    scores[query, column] = -np.inf
