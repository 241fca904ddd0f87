"""Candidates of a back end are scored, deduplicated and completed as exact search would."""

import numpy as np
import pytest

from t1_jax.retrieval.index import EmbeddingTable
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from tests.retrieval.index.untrained import Untrained


class Proposing(Untrained):
    """Proposes given rows for every query."""

    def propose(self, units, count):
        return np.tile(np.array(self.settings, np.int64), (len(units), 1))


@pytest.fixture
def table() -> EmbeddingTable:
    vectors = np.random.default_rng(0).standard_normal((40, 8))
    return EmbeddingTable.from_vectors([f"{row:02d}" for row in range(40)], vectors)


def test_candidates_are_ranked_exactly_and_once(table):
    index = Proposing(table, None, [7, 3, 3, -1, 20, 7])
    found = index.search(table.vectors[3:4], 2)
    order = sorted([3, 7, 20], key=lambda row: -float(table.vectors[row] @ table.vectors[3]))
    assert found.rows.tolist() == [order[:2]]
    assert found.scores[0, 0] == pytest.approx(1)


def test_excluded_candidates_do_not_count(table):
    index = Proposing(table, None, [3, 7, 20, 21])
    found = index.search(table.vectors[3:5], 2, [[3], []])
    assert 3 not in found.rows[0]
    assert set(found.rows[0].tolist()) <= {7, 20, 21}


def test_too_few_candidates_and_ties_beyond_them_are_searched_exactly(table):
    exact = NumpyIndex(table).search(table.vectors[:3], 4)
    short = Proposing(table, None, [1, 2]).search(table.vectors[:3], 4)
    np.testing.assert_array_equal(short.rows, exact.rows)
    equal = EmbeddingTable.from_vectors(table.ids, np.tile(table.vectors[:1], (40, 1)))
    found = Proposing(equal, None, [5, 6, 7]).search(table.vectors[:1], 2)
    assert found.rows.tolist() == [[39, 38]]  # the highest ids, as all scores are equal
