from collections.abc import Iterator

import jax
import numpy as np
import pytest

from t1_jax.retrieval import Index, build_index
from t1_jax.retrieval.index import jax_index


@pytest.fixture
def compilations() -> Iterator[list[str]]:
    """One entry for each program that JAX compiles from here on."""
    compiled: list[str] = []

    def listen(event: str, duration_secs: float, **kwargs: str | int) -> None:
        if event == "/jax/core/compile/backend_compile_duration":
            compiled.append(event)

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield compiled
    jax.monitoring.unregister_event_duration_listener(listen)


def built(seed: int, rows: int = 103, width: int = 12) -> Index:
    vectors = np.random.default_rng(seed).standard_normal((rows, width))
    return build_index("jax", [str(row) for row in range(rows)], vectors)


def test_programs_are_bounded_by_buckets_and_shared_by_indexes(compilations: list[str]):
    index = built(0)
    queries = np.random.default_rng(1).standard_normal((32, 12))
    compilations.clear()
    for n in range(1, 33):
        index.search(queries[:n], 1 + n % 8, [[row] * (n % 3) for row in range(n)])
        index.rank_of(queries[:n], np.ones((n, 1 + n % 8), int))
    # Searches: 3 buckets of queries x (with or without exclusions). Ranks: 3 buckets of queries.
    assert len(compilations) <= 9
    compilations.clear()
    built(2).search(queries, 5)
    assert compilations == []


def test_rows_lie_on_all_devices_and_padding_is_never_found():
    index = built(0, rows=9)
    assert isinstance(index, jax_index.JaxIndex)
    assert len(index._shards.sharding.device_set) == jax.device_count() == 8
    against = -index.vectors[:1]
    result = index.search(np.concatenate([against, index.vectors]), 16)
    assert sorted(result.rows[0].tolist()) == list(range(9))
    assert index.rank_of(against, np.array([[0]])).tolist() == [[9]]


def test_blocks_of_queries_do_not_change_the_answer(monkeypatch: pytest.MonkeyPatch):
    index = built(0)
    rng = np.random.default_rng(1)
    queries, rows = rng.standard_normal((21, 12)), rng.integers(0, 103, (21, 2))
    whole, ranks = index.search(queries, 5), index.rank_of(queries, rows)
    monkeypatch.setattr(jax_index, "_SCORE_BYTES", 4 * 13 * 5)
    np.testing.assert_array_equal(index.search(queries, 5).rows, whole.rows)
    np.testing.assert_array_equal(index.rank_of(queries, rows), ranks)
