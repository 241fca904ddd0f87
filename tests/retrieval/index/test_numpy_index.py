import tracemalloc

import numpy as np
import pytest

from t1_jax.retrieval import build_index
from t1_jax.retrieval.index import EmbeddingTable, numpy_index


def test_blocks_of_rows_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch):
    rng = np.random.default_rng(0)
    index = build_index("numpy", [str(row) for row in range(50)], rng.standard_normal((50, 8)))
    queries, rows = rng.standard_normal((7, 8)), rng.integers(0, 50, (7, 3))
    whole, ranks = index.search(queries, 5), index.rank_of(queries, rows)
    monkeypatch.setattr(numpy_index, "_BLOCK_BYTES", 4 * 8 * 6)  # 6 rows, and all queries
    np.testing.assert_array_equal(index.search(queries, 5).rows, whole.rows)
    np.testing.assert_array_equal(index.rank_of(queries, rows), ranks)


def test_an_index_is_read_block_by_block(tmp_path, monkeypatch: pytest.MonkeyPatch):
    """Peak memory of a search is that of a few blocks, not that of the vectors in float32."""
    monkeypatch.setattr(numpy_index, "_BLOCK_BYTES", 1 << 18)
    path = tmp_path / "stored.npy"
    np.save(path, np.random.default_rng(0).integers(-127, 128, (40_000, 64), dtype=np.int8))
    stored = np.load(path, mmap_mode="r")
    table = EmbeddingTable(ids=tuple(map(str, range(len(stored)))), stored=stored)
    index = numpy_index.NumpyIndex(table)
    assert len(index.table.tie_break_order) == 40_000
    queries = np.random.default_rng(1).standard_normal((20, 64))
    tracemalloc.start()
    result = index.search(queries, 10)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * stored.size / 3
    assert (np.diff(result.scores, axis=1) <= 0).all()
    scores = table.vectors @ table.normalize_queries(queries).T
    np.testing.assert_array_equal(result.rows[:, 0], scores.argmax(axis=0))
