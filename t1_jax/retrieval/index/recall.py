"""Recall@10 of an approximate index against exact search, on a sample of queries."""

import time
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float

from t1_jax.progress import counted
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.numpy_index import NumpyIndex

if TYPE_CHECKING:
    from t1_jax.retrieval.index.protocol import Index

SAMPLE_QUERIES = 256
"""Documents that recall is measured with, where there are no queries."""

SCORE_TOLERANCE = 2e-6
"""Cosines closer than that may be equal: the rounding of a sum of float32 products."""


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
            self.source = counted(len(chosen), "documents")
        else:
            self.source = counted(len(queries), "queries")
        self.units = table.normalize_queries(queries)
        exact = NumpyIndex(table).search(self.units, 10, self._own_rows)
        self._last = np.where(exact.rows >= 0, exact.scores, np.inf).min(axis=1)
        self._count = (exact.rows >= 0).sum(axis=1)

    def recall_at_10(self, index: "Index") -> float:
        """The mean part of the exact top 10 (or of all rows, if fewer) that an index finds.

        A row that scores as high as the last one of the exact top 10 counts as found, whichever of
        the tied rows it is.
        """
        found = index.search(self.units, 10, self._own_rows).scores
        hits = (found >= self._last[:, None] - SCORE_TOLERANCE).sum(axis=1)
        return float(np.mean(np.minimum(hits, self._count) / self._count))

    def queries_per_second(self, index: "Index", rounds: int) -> float:
        """The speed of the fastest of some searches for the top 10 of all queries at once."""
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            index.search(self.units, 10)
            seconds.append(time.perf_counter() - start)
        return len(self.units) / min(seconds)
