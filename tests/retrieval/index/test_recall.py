"""Recall against exact search: ties are not misses, and documents do not find themselves."""

from collections.abc import Sequence

import numpy as np

from t1_jax.retrieval.index import EmbeddingTable, SearchResult
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.retrieval.index.recall import RecallSample


class Fixed(NumpyIndex):
    """Finds the rows that it is told to."""

    def __init__(self, table: EmbeddingTable, found: Sequence[int]) -> None:
        super().__init__(table)
        self.found = np.array(found)

    def search(self, queries, k, excluded=None) -> SearchResult:
        scores = (self.vectors[self.found] @ queries.T).T
        rows = np.tile(self.found, (len(queries), 1))
        return SearchResult(scores=np.sort(scores)[:, ::-1].astype(np.float32), rows=rows)


def test_a_tied_row_is_as_good_as_another():
    """Rows 0 to 4 are the query, rows 5 to 24 score equally, rows 25 to 29 lower."""
    vectors = np.zeros((30, 2), np.float32)
    vectors[:5] = (1, 0)
    vectors[5:25] = (0.6, 0.8)
    vectors[25:] = (0, 1)
    table = EmbeddingTable.from_vectors([str(row) for row in range(30)], vectors)
    sample = RecallSample(table, np.array([[1.0, 0.0]]))
    assert sample.source == "1 query"
    assert sample.recall_at_10(Fixed(table, range(10))) == 1
    assert sample.recall_at_10(Fixed(table, [0, 1, 2, 3, 4, 20, 21, 22, 23, 24])) == 1
    assert sample.recall_at_10(Fixed(table, [0, 1, 2, 3, 4, 20, 21, 22, 25, 26])) == 0.8
    assert sample.recall_at_10(Fixed(table, [25, 26, 27, 28, 29])) == 0


def test_documents_are_excluded_from_their_own_ranking():
    table = EmbeddingTable.from_vectors(["a", "b", "c"], np.eye(3))
    sample = RecallSample(table)
    assert sample.source == "3 documents"
    assert sample.recall_at_10(NumpyIndex(table)) == 1
    assert RecallSample(EmbeddingTable.from_vectors(["a"], np.eye(1))).recall_at_10(
        NumpyIndex(EmbeddingTable.from_vectors(["a"], np.eye(1)))
    )
