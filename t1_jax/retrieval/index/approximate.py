"""What approximate back ends share: exact scores for their candidates, and measured recall.

A back end only proposes candidates. They are scored here, so that scores, ties and exclusions are
those of exact search. A query with too few candidates is answered by exact search.
"""

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.retrieval.index.protocol import SearchResult
from t1_jax.retrieval.index.store import Manifest
from t1_jax.retrieval.index.top_k import TopK

SAMPLE_QUERIES = 256
"""Documents that recall is measured with, where there are no queries."""

_MARGIN = 16
"""Candidates beyond k: a back end's scores differ from ours in the last bits."""

_SCORE_TOLERANCE = 2e-6
"""Cosines closer than that may be equal: the rounding of a sum of float32 products."""

_BLOCK_BYTES = 1 << 26


class ApproximateIndex(NumpyIndex):
    """Approximate search over an exact table; `rank_of` is exact, at the cost of exact search.

    Attributes:
        settings: of the back end; its search settings may be changed between searches.
        recall_at_10: recall@10 against exact search, see `measure_recall`.
        measured: with what and how fast, for the manifest.
    """

    settings: Any
    recall_at_10: float
    measured: dict[str, Any]

    @classmethod
    @abstractmethod
    def load(cls, folder: Path, manifest: Manifest, table: EmbeddingTable) -> "ApproximateIndex":
        """Restores a saved index from a folder that `read_index` has checked.

        Raises:
            UnsupportedError: the back end is not installed.
            CorruptIndexError: it cannot read its files.
        """

    @abstractmethod
    def propose(self, units: Float32[np.ndarray, "B E"], count: int) -> Int[np.ndarray, "B M"]:
        """The rows that a back end finds nearest to each query, −1 beyond the last.

        Args:
            units: normalized queries, at least one.
            count: rows that are wanted; M may be smaller or larger.
        """

    def search(
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.normalize_queries(queries)
        excluded_rows = self.table.pad_row_lists(excluded, len(units), "excluded")
        best = TopK(len(units), k, self.table.tie_break_order)
        if not len(units):
            return SearchResult(scores=best.scores, rows=best.rows)
        wanted = best.rows.shape[1] + excluded_rows.shape[1] + _MARGIN
        proposed = self.propose(units, min(wanted, len(self.ids)))
        unsettled = np.zeros(len(units), bool)
        size = max(1, _BLOCK_BYTES // (4 * self.table.width * proposed.shape[1]))
        for start in range(0, len(units), size):
            block = slice(start, start + size)
            scores = self._exact_scores(units[block], proposed[block])
            lowest = np.where(proposed[block] >= 0, scores, np.inf).min(axis=1, initial=np.inf)
            for query, rows in enumerate(excluded_rows[block]):
                if len(rows := rows[rows >= 0]):
                    scores[query, np.isin(proposed[start + query], rows)] = -np.inf
            best.add_candidates(start, scores, proposed[block])
            # Rows that were not proposed may be as good as the last one of the result.
            unsettled[block] = lowest >= best.scores[block, -1] - _SCORE_TOLERANCE
        removed = np.array([len(np.unique(rows[rows >= 0])) for rows in excluded_rows])
        available = np.minimum(best.rows.shape[1], len(self.ids) - removed)
        unsettled &= (proposed >= 0).sum(axis=1) < len(self.ids)
        unsettled |= (best.rows >= 0).sum(axis=1) < available
        again = np.flatnonzero(unsettled)
        if len(again):
            exact = super().search(units[again], k, [row[row >= 0] for row in excluded_rows[again]])
            best.scores[again], best.rows[again] = exact.scores, exact.rows
        return SearchResult(scores=best.scores, rows=best.rows)

    def _exact_scores(
        self, units: Float32[np.ndarray, "b E"], rows: Int[np.ndarray, "b M"]
    ) -> Float32[np.ndarray, "b M"]:
        """Cosines with the given rows; −inf for −1 and for a row that was listed before."""
        vectors = self.table.take(rows.ravel()).reshape(*rows.shape, -1)
        scores = np.matmul(vectors, units[:, :, None])[:, :, 0]
        in_order = np.argsort(rows, axis=1, kind="stable")
        ordered = np.take_along_axis(rows, in_order, axis=1)
        repeated = np.zeros(rows.shape, bool)
        np.put_along_axis(repeated, in_order[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        return np.where((rows < 0) | repeated, -np.inf, scores)


class RecallSample:
    """Queries with their exact top 10, against which settings are measured.

    Attributes:
        units: normalized queries [B, E].
        source: what they are, for people.
    """

    def __init__(
        self, table: EmbeddingTable, queries: Float[np.ndarray, "B E"] | None = None
    ) -> None:
        """Searches exactly.

        Args:
            table: of the index.
            queries: query embeddings. None takes documents, each of which is excluded from its own
                ranking: that would be found too easily.

        Raises: as `Index.search`.
        """
        self._table = table
        self._own_rows: list[list[int]] | None = None
        if queries is None:
            chosen = np.random.default_rng(0).permutation(len(table.ids))[:SAMPLE_QUERIES]
            queries = table.take(chosen)
            if len(table.ids) > 1:
                self._own_rows = [[row] for row in chosen.tolist()]
            self.source = f"{len(chosen)} documents"
        else:
            self.source = f"{len(queries)} queries"
        self.units = table.normalize_queries(queries)
        exact = NumpyIndex(table).search(self.units, 10, self._own_rows)
        self._last = np.where(exact.rows >= 0, exact.scores, np.inf).min(axis=1)
        self._count = (exact.rows >= 0).sum(axis=1)

    def recall_at_10(self, index: ApproximateIndex) -> float:
        """The mean part of the exact top 10 (or of all rows, if fewer) that an index finds.

        A row that scores as high as the last one of the exact top 10 counts as found, whichever of
        the tied rows it is.
        """
        found = index.search(self.units, 10, self._own_rows).scores
        hits = (found >= self._last[:, None] - _SCORE_TOLERANCE).sum(axis=1)
        return float(np.mean(np.minimum(hits, self._count) / self._count))
