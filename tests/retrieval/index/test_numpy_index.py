import numpy as np
import pytest

from t1_jax.retrieval import build_index
from t1_jax.retrieval.index import numpy_index


def test_blocks_of_rows_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    index = build_index("numpy", [str(row) for row in range(50)], rng.standard_normal((50, 8)))
    queries, rows = rng.standard_normal((7, 8)), rng.integers(0, 50, (7, 3))
    whole, ranks = index.search(queries, 5), index.rank_of(queries, rows)
    monkeypatch.setattr(numpy_index, "_BLOCK_BYTES", 4 * 8 * 6)  # 6 rows, and all queries
    np.testing.assert_array_equal(index.search(queries, 5).rows, whole.rows)
    np.testing.assert_array_equal(index.rank_of(queries, rows), ranks)
