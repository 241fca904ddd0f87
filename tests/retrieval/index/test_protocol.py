"""What every back end must do alike: the same tests over all of them."""

from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval import (
    FaissSettings,
    Fingerprint,
    Index,
    ScannSettings,
    SearchResult,
    build_index,
    load_index,
)

ModuleContext = Callable[[list[str], np.ndarray], Index]

BUILDERS: dict[str, ModuleContext] = {
    "numpy": lambda ids, vectors: build_index("numpy", ids, vectors),
    "jax": lambda ids, vectors: build_index("jax", ids, vectors),
    "device, one": lambda ids, vectors: build_index(
        "jax", ids, vectors, mesh=jax.make_mesh((1,), ("data",), devices=jax.devices()[:1])
    ),
    "device, 2 x 4": lambda ids, vectors: build_index(
        "jax", ids, vectors, mesh=jax.make_mesh((2, 4), ("data", "fsdp"))
    ),
    "scann, brute force": lambda ids, vectors: build_index("scann", ids, vectors),
    "scann, tree": lambda ids, vectors: build_index(
        "scann", ids, vectors, scann=WHOLE_TREE if len(ids) >= 16 else None
    ),
}
BUILDERS |= {
    f"faiss, {name}": lambda ids, vectors, given=given: build_index(
        "faiss", ids, vectors, faiss=given if len(ids) >= 16 else None
    )
    for name, given in {
        "flat": FaissSettings(method="flat"),
        "hnsw": FaissSettings(method="hnsw", ef_search=1000),
        "ivf_pq": FaissSettings(method="ivf_pq", lists=2, lists_to_search=2, candidates=1000),
    }.items()
}
# Visits every leaf and scores every row, so it has to be exact.
WHOLE_TREE = ScannSettings(method="tree", leaves=2, leaves_to_search=2, candidates=1000)
FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")


@pytest.fixture(params=BUILDERS)
def build(request: pytest.FixtureRequest) -> ModuleContext:
    if request.param.startswith("faiss"):
        pytest.importorskip("faiss", reason="needs t1_jax[faiss]")
    return BUILDERS[request.param]


def exact_vectors(seed: int, rows: int) -> np.ndarray:
    """Unit vectors of ±½ in four of eight places: their products are exact, and many are equal."""
    rng = np.random.default_rng(seed)
    vectors = np.zeros((rows, 8), np.float32)
    places = rng.permuted(np.tile(np.arange(8), (rows, 1)), axis=1)[:, :4]
    np.put_along_axis(vectors, places, rng.choice([-0.5, 0.5], (rows, 4)).astype("f"), axis=1)
    return vectors


def plain_search(
    ids: list[str], vectors: np.ndarray, query: np.ndarray, k: int, excluded: list[int]
) -> list[int]:
    scores = vectors @ query
    rows = [row for row in range(len(ids)) if row not in excluded]
    return sorted(rows, key=lambda row: (scores[row], ids[row]), reverse=True)[:k]


@pytest.mark.parametrize(("rows", "k"), [(37, 5), (3, 10**12), (1, 1), (64, 64)])
def test_search_is_exact_with_ties_by_id_descending(build: ModuleContext, rows: int, k: int):
    ids, vectors, queries = (
        [str(row) for row in range(rows)],
        exact_vectors(1, rows),
        exact_vectors(2, 9),
    )
    excluded = [list(range(query % rows)) for query in range(9)]
    index = build(ids, vectors)
    result = index.search(queries, k, excluded)
    assert result.scores.dtype == np.float32
    assert result.rows.shape == result.scores.shape == (9, min(k, rows))
    for query in range(9):
        expected = plain_search(ids, vectors, queries[query], k, excluded[query])
        found = result.rows[query]
        assert found.tolist() == expected + [-1] * (min(k, rows) - len(expected))
        np.testing.assert_array_equal(
            result.scores[query, : len(expected)], vectors[expected] @ queries[query]
        )
        assert np.isneginf(result.scores[query, len(expected) :]).all()


def test_ranks_count_ties_against_a_row(build: ModuleContext):
    vectors, queries = exact_vectors(3, 29), exact_vectors(4, 5)
    index = build([str(row) for row in range(29)], vectors)
    rows = np.random.default_rng(5).integers(-1, 29, (5, 4))
    excluded = [{0, 1, 2}, [], [28], [7], list(range(20))]
    ranks = index.rank_of(queries, rows, excluded)
    scores = queries @ vectors.T
    for query, place in np.ndindex(rows.shape):
        row = int(rows[query, place])
        others = set(range(29)) - {row} - set(excluded[query])
        ahead = sum(scores[query, other] >= scores[query, row] for other in others)
        assert ranks[query, place] == (1 + ahead if row >= 0 else -1)


def test_a_collapsed_encoder_ranks_everything_last(build: ModuleContext):
    index = build([str(row) for row in range(20)], np.tile(exact_vectors(0, 1), (20, 1)))
    query = exact_vectors(0, 1)
    assert index.rank_of(query, np.array([[0, 7, 19]])).tolist() == [[20, 20, 20]]
    assert index.search(query, 3).rows.tolist() == [[9, 8, 7]]


def test_unnormalized_input_gives_cosines(build: ModuleContext):
    index = build(["a", "b"], np.array([[3.0, 4.0], [0.0, 2.0]]))
    result = index.search(np.array([[0.0, 7.0]]), 2)
    assert result.rows.tolist() == [[1, 0]]
    np.testing.assert_allclose(result.scores, [[1.0, 0.8]], rtol=1e-6)


def test_nothing_asked_is_nothing_found(build: ModuleContext):
    index = build(["a", "b"], exact_vectors(1, 2))
    none = np.empty((0, 8), np.float32)
    assert index.search(none, 3).rows.shape == (0, 2)
    assert index.rank_of(none, np.empty((0, 1), np.int64)).shape == (0, 1)
    assert index.rank_of(exact_vectors(1, 2), np.empty((2, 0), np.int64)).shape == (2, 0)


@pytest.mark.parametrize("bad", [np.nan, np.inf, 0.0])
def test_bad_queries_are_named(build: ModuleContext, bad: float):
    index = build(["a", "b"], exact_vectors(1, 2))
    queries = np.concatenate([exact_vectors(1, 1), np.full((1, 8), bad, np.float32)])
    with pytest.raises(DataError, match="query 1"):
        index.search(queries, 1)
    with pytest.raises(DataError, match="query 1"):
        index.rank_of(queries, np.array([[0], [0]]))


def test_k_and_rows_are_checked(build: ModuleContext):
    index = build(["a", "b"], exact_vectors(1, 2))
    with pytest.raises(DataError, match="at least 1"):
        index.search(exact_vectors(1, 1), 0)
    with pytest.raises(DataError, match="excluded: a row outside"):
        index.search(exact_vectors(1, 1), 1, [[2]])
    with pytest.raises(DataError, match="rows: a row outside"):
        index.rank_of(exact_vectors(1, 1), np.array([[2]]))


def test_a_saved_index_may_be_moved_and_answers_the_same(build: ModuleContext, tmp_path: Path):
    ids, vectors, queries = (
        [f"id {row}" for row in range(40)],
        exact_vectors(6, 40),
        exact_vectors(7, 3),
    )
    index = build(ids, vectors)
    index.save(tmp_path / "here", FINGERPRINT)
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "here").rename(tmp_path / "elsewhere" / "there")
    loaded = load_index(tmp_path / "elsewhere" / "there", FINGERPRINT)
    assert type(loaded) is type(index)
    assert loaded.ids == index.ids == tuple(ids)
    np.testing.assert_array_equal(loaded.vectors, index.vectors)
    np.testing.assert_array_equal(loaded.search(queries, 9).rows, index.search(queries, 9).rows)


@settings(max_examples=15)
@given(
    seed=st.integers(0, 1000), rows=st.integers(1, 40), k=st.integers(1, 45), n=st.integers(1, 5)
)
def test_device_and_reference_agree_on_any_vectors(seed: int, rows: int, k: int, n: int):
    rng = np.random.default_rng(seed)
    vectors, queries = rng.standard_normal((rows, 6)), rng.standard_normal((n, 6))
    ids = [str(row) for row in range(rows)]
    exact, device = BUILDERS["numpy"](ids, vectors), BUILDERS["jax"](ids, vectors)
    np.testing.assert_array_equal(device.search(queries, k).rows, exact.search(queries, k).rows)
    everything = np.tile(np.arange(rows), (n, 1))
    np.testing.assert_array_equal(
        device.rank_of(queries, everything), exact.rank_of(queries, everything)
    )


def test_a_result_becomes_a_run():
    result = SearchResult(
        scores=np.array([[0.5, 0.25], [1.0, -np.inf]], np.float32), rows=np.array([[1, 0], [0, -1]])
    )
    assert result.to_run(["q1", "q2"], ["a", "b"]) == {
        "q1": {"b": 0.5, "a": 0.25},
        "q2": {"a": 1.0},
    }
