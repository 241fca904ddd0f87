"""Exact search in numpy: the reference that every other back end is held to."""

from collections.abc import Iterator
from typing import ClassVar

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.errors import DataError
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.protocol import Index, SearchResult
from t1_jax.retrieval.ranking import best_positions

_SCORE_BYTES = 1 << 27
"""Scores held at a time, which bounds how many queries are searched in one product."""


class NumpyIndex(Index):
    """Every query against every row, a block of queries at a time."""

    kind: ClassVar[str] = "numpy"

    def __init__(self, table: EmbeddingTable) -> None:
        self.table = table

    def search(
        self,
        queries: Float[np.ndarray, "B E"],
        k: int,
        excluded: RowLists | None = None,
    ) -> SearchResult:
        """See `Index.search`."""
        return exact_search(self.table, queries, k, excluded)

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """See `Index.rank_of`."""
        return exact_ranks(self.table, queries, rows, excluded)


def exact_search(
    table: EmbeddingTable,
    queries: Float[np.ndarray, "B E"],
    k: int,
    excluded: RowLists | None = None,
) -> SearchResult:
    """The best `k` rows by comparing every row; see `Index.search`."""
    units = table.checked_queries(queries)
    result = empty_result(len(units), k, len(table.ids))
    excluded_rows = table.checked_rows(excluded, len(units), "excluded")
    for start, scores in _score_blocks(table, units):
        for query, row_scores in enumerate(scores, start):
            row_scores[excluded_rows[query][excluded_rows[query] >= 0]] = -np.inf
            fill_result(
                result, query, row_scores, np.arange(len(row_scores)), table.tie_break_order
            )
    return result


def exact_ranks(
    table: EmbeddingTable,
    queries: Float[np.ndarray, "B E"],
    rows: Int[np.ndarray, "B R"],
    excluded: RowLists | None = None,
) -> Int[np.ndarray, "B R"]:
    """Ranks by comparing every row; see `Index.rank_of`."""
    units = table.checked_queries(queries)
    wanted = table.checked_rows(rows.tolist(), len(units), "rows")
    excluded_rows = table.checked_rows(excluded, len(units), "excluded")
    ranks = np.full(rows.shape, -1, dtype=np.int64)
    for start, scores in _score_blocks(table, units):
        for query, row_scores in enumerate(scores, start):
            own = row_scores[wanted[query]]
            row_scores[excluded_rows[query][excluded_rows[query] >= 0]] = -np.inf
            for place in np.flatnonzero(wanted[query] >= 0):
                at_least = np.count_nonzero(row_scores >= own[place])
                itself = row_scores[wanted[query, place]] >= own[place]
                ranks[query, place] = 1 + at_least - int(itself)
    return ranks


def empty_result(n_queries: int, k: int, n_rows: int) -> SearchResult:
    """A result in which no query has found anything yet: the best `k`, or all rows if fewer.

    Raises:
        DataError: `k` is below 1.
    """
    if k < 1:
        raise DataError(f"the best {k} rows were asked for; at least 1")
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
    places: Int[np.ndarray, "rows"],
) -> None:
    """Writes the best of some scored rows into one line of `result`; a score of −inf is no result.

    Args:
        result: written to in place.
        query: the line.
        scores: of the candidates.
        rows: the candidates' rows.
        places: `tie_break_order` of the whole table.
    """
    best = best_positions(scores, places[rows], result.rows.shape[1])
    best = best[scores[best] > -np.inf]
    result.scores[query, : len(best)] = scores[best]
    result.rows[query, : len(best)] = rows[best]


def _score_blocks(
    table: EmbeddingTable, units: Float32[np.ndarray, "B E"]
) -> Iterator[tuple[int, Float32[np.ndarray, "b C"]]]:
    """Yields the number of the first query of each block, and the block's cosines with all rows."""
    size = max(1, _SCORE_BYTES // (4 * len(table.ids)))
    for start in range(0, len(units), size):
        yield start, units[start : start + size] @ table.vectors.T
