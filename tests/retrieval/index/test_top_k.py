"""The best rows over blocks are those of a sort over everything."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval.index.top_k import TopK


@given(st.integers(0, 10_000), st.integers(1, 12), st.integers(1, 9))
def test_blocks_give_what_a_sort_gives(seed: int, k: int, block: int):
    """Scores of few values, so that many are equal; some are excluded."""
    rng = np.random.default_rng(seed)
    scores = rng.integers(-2, 3, (3, 20)).astype(np.float32)
    scores[rng.random((3, 20)) < 0.1] = -np.inf
    tie_order = rng.permutation(20)
    best = TopK(3, k, tie_order)
    for first in range(0, 20, block):
        best.add_block(0, first, scores[:2, first : first + block])
        rows = np.arange(first, min(first + block, 20))[None]
        best.add_candidates(2, scores[2:, first : first + block], rows)
    for query in range(3):
        rows = [row for row in range(20) if scores[query, row] > -np.inf]
        expected = sorted(rows, key=lambda row: (-scores[query, row], tie_order[row]))[:k]
        assert best.rows[query].tolist() == expected + [-1] * (k - len(expected))
        np.testing.assert_array_equal(best.scores[query, : len(expected)], scores[query, expected])


def test_k_is_at_least_one_and_at_most_all_rows():
    assert TopK(2, 50, np.arange(3)).rows.shape == (2, 3)
    with pytest.raises(DataError, match="k must be at least 1, got 0"):
        TopK(2, 0, np.arange(3))
