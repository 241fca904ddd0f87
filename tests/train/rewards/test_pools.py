"""Pools hold what they should, whatever the batch; stores know their age and come back whole."""

from typing import Any

import numpy as np
import pytest

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import EmbeddingTable
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.train.rewards import (
    DocumentStore,
    PoolConfig,
    build_pools,
    outcome_from_pools,
    outcome_from_scores,
)
from tests.train.rewards.toys import record

IDS = [f"d{c:02}" for c in range(60)]


def vectors(seed: int, *shape: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).standard_normal(shape).astype(np.float32)
    return drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)


INDEX = NumpyIndex(EmbeddingTable.from_vectors(IDS, vectors(0, 60, 4)))
RECORDS = [
    record("q0", ["d03"]),
    record("q1", ["d10", "d11"], excluded=frozenset({"d12", "d13"})),
    record("q2", ["d59"]),
]
QUERIES = vectors(1, 3, 4)
CONFIG = PoolConfig(num_hard=5, num_random=7)


def test_a_pool_is_positives_then_the_hardest_then_random_ones():
    pools = build_pools(RECORDS, QUERIES, INDEX, config=CONFIG, seed=0)
    for item, query, pool in zip(RECORDS, QUERIES, pools, strict=True):
        ours = list(item.positives)
        assert len(set(pool)) == len(pool) == len(ours) + 12
        assert list(pool[: len(ours)]) == ours
        assert not item.excluded & set(pool)
        order = [IDS[row] for row in np.argsort(-(INDEX.vectors @ query))]
        hardest = [name for name in order if name not in {*ours, *item.excluded}][:5]
        assert list(pool[len(ours) : len(ours) + 5]) == hardest


def test_a_pool_depends_on_seed_and_query_alone():
    pools = build_pools(RECORDS, QUERIES, INDEX, config=CONFIG, seed=0)
    backwards = build_pools(RECORDS[::-1], QUERIES[::-1], INDEX, config=CONFIG, seed=0)
    assert pools == backwards[::-1]
    other = build_pools(RECORDS, QUERIES, INDEX, config=CONFIG, seed=1)
    assert pools[0][:6] == other[0][:6]
    assert pools[0][6:] != other[0][6:]
    twins = [record("q0", ["d03"]), record("q9", ["d03"])]
    first, second = build_pools(twins, QUERIES[[0, 0]], INDEX, config=CONFIG, seed=0)
    assert first[6:] != second[6:]


def test_random_documents_are_spread_over_the_corpus():
    counts = dict.fromkeys(IDS, 0)
    many = [record(f"q{n}", ["d03"]) for n in range(300)]
    config = PoolConfig(num_hard=0, num_random=10)
    for pool in build_pools(many, QUERIES[[0] * 300], INDEX, config=config, seed=0):
        for name in pool[1:]:
            counts[name] += 1
    assert counts.pop("d03") == 0
    # Each of 59 is drawn 300 · 10/59 = 51 times on average, with a standard deviation of 6.5.
    assert 20 < min(counts.values()) <= max(counts.values()) < 85


def test_documents_too_similar_are_passed_over():
    scores = INDEX.vectors @ QUERIES[0]
    cap = float(np.sort(scores)[-13])  # twelve documents lie above it
    config = PoolConfig(num_hard=5, num_random=0, similarity_cap=cap)
    pool = build_pools(RECORDS[:1], QUERIES[:1], INDEX, config=config, seed=0)[0]
    others = [scores[IDS.index(name)] for name in pool[1:]]
    assert len(others) == 5
    assert max(others) <= cap + 1e-6
    nothing = PoolConfig(num_hard=5, num_random=3, similarity_cap=-1.0)
    assert len(build_pools(RECORDS[:1], QUERIES[:1], INDEX, config=nothing, seed=0)[0]) == 4


def test_a_small_corpus_gives_a_small_pool():
    pools = build_pools(
        RECORDS, QUERIES, INDEX, config=PoolConfig(num_hard=500, num_random=500), seed=0
    )
    assert [len(pool) for pool in pools] == [60, 58, 60]
    pools = build_pools(
        RECORDS, QUERIES, INDEX, config=PoolConfig(num_hard=0, num_random=500), seed=0
    )
    assert [len(set(pool)) for pool in pools] == [60, 58, 60]


def test_a_positive_outside_the_corpus_is_named():
    with pytest.raises(DataError, match="no document 'elsewhere'"):
        build_pools([record("q", ["elsewhere"])], QUERIES[:1], INDEX, config=CONFIG, seed=0)


def test_standing_in_a_pool_counts_its_documents_only():
    pools = build_pools(RECORDS, QUERIES, INDEX, config=CONFIG, seed=0)
    thoughts = vectors(2, 3, 2, 4)
    found = outcome_from_pools(RECORDS, 5 * thoughts, pools, INDEX.table)
    scores = np.stack([each @ INDEX.vectors.T for each in thoughts])
    grades = np.array([[item.positives.get(name, 0) for name in IDS] for item in RECORDS])
    allowed = np.array([[name in pool for name in IDS] for pool in pools])
    expected = outcome_from_scores(scores, grades, allowed)
    assert found.positive_ranks.tolist() == expected.positive_ranks.tolist()
    assert found.candidates.tolist() == [13, 14, 13]
    np.testing.assert_allclose(found.positive_scores, expected.positive_scores, atol=1e-6)
    np.testing.assert_allclose(found.hardest_negatives, expected.hardest_negatives, atol=1e-6)


def test_a_store_knows_its_age():
    store = DocumentStore(IDS, refresh_steps=50)
    assert store.due(0)
    with pytest.raises(DataError, match="the document store is empty"):
        store.age(0)
    store.refresh(vectors(3, 60, 4), 100)
    old = store.table
    assert (store.age(149), store.due(149), store.due(150)) == (49, False, True)
    taken = old.vectors.copy()
    store.refresh(vectors(4, 60, 4), 150)
    assert (store.age(151), store.due(150)) == (1, False)
    # A reward that is still at work compares with the table it took.
    assert old.vectors.tolist() == taken.tolist()
    frozen = DocumentStore(IDS, refresh_steps=None)
    frozen.refresh(vectors(3, 60, 4), 0)
    assert not frozen.due(10**6)


def test_a_store_comes_back_bit_for_bit():
    store = DocumentStore(IDS, refresh_steps=50)
    empty = store.state_dict()
    store.refresh(3 * vectors(5, 60, 4), 7)
    again = DocumentStore(IDS, refresh_steps=50)
    again.load_state_dict(store.state_dict())
    assert again.age(9) == 2
    assert again.table.vectors.tobytes() == store.table.vectors.tobytes()
    for name, value in again.state_dict().items():
        np.testing.assert_array_equal(value, store.state_dict()[name])
    again.load_state_dict(empty)
    assert again.due(0)


def test_a_store_refuses_another_corpus():
    store = DocumentStore(IDS, refresh_steps=50)
    with pytest.raises(DataError, match="60 ids, 3 rows"):
        store.refresh(vectors(0, 3, 4), 0)
    store.refresh(vectors(0, 60, 4), 0)
    for ids in (IDS[:59], IDS[::-1]):
        with pytest.raises(DataError, match="another corpus"):
            DocumentStore(ids, refresh_steps=50).load_state_dict(store.state_dict())


def test_config_is_documented_and_reads_from_overrides():
    assert undocumented_fields(PoolConfig) == []
    config = load_config(PoolConfig, overrides=["kind=corpus", "similarity_cap=0.9"])
    assert (config.kind, config.similarity_cap) == ("corpus", 0.9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "pools"}, "did you mean 'pool'"),
        ({"num_hard": -1}, "num_hard must be at least 0"),
        ({"refresh_steps": 0}, "refresh_steps must be at least 1"),
        ({"num_hard": 0, "num_random": 0}, "positives alone"),
        ({"similarity_cap": 1.5}, "similarity_cap is a cosine"),
    ],
)
def test_config_refuses(change: dict[str, Any], message: str):
    with pytest.raises(ConfigError, match=message):
        PoolConfig(**change)
