import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, IndexContractError, UnsupportedError
from t1_jax.retrieval import (
    CorruptIndexError,
    Fingerprint,
    ScannSettings,
    build_index,
    load_index,
    read_manifest,
)
from t1_jax.retrieval.index import EmbeddingTable
from t1_jax.retrieval.index.scann_index import ScannIndex

TREE = ScannSettings(method="tree", leaves=16, leaves_to_search=8, candidates=200)
NARROW = ScannSettings(method="tree", leaves=16, leaves_to_search=1, candidates=20)
FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")


@pytest.fixture(scope="module")
def clustered() -> EmbeddingTable:
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((16, 16)).repeat(50, axis=0)
    return EmbeddingTable.from_vectors(
        [str(row) for row in range(800)], centers + 0.2 * rng.standard_normal((800, 16))
    )


def isotropic(rows: int = 800) -> EmbeddingTable:
    vectors = np.random.default_rng(0).standard_normal((rows, 64))
    return EmbeddingTable.from_vectors([str(row) for row in range(rows)], vectors)


def test_a_tree_over_clusters_is_measured_and_good(clustered: EmbeddingTable, tmp_path: Path):
    index = ScannIndex.build(clustered, TREE)
    assert 0.95 <= index.recall_at_10 <= 1
    index.save(tmp_path / "index", FINGERPRINT)
    assert read_manifest(tmp_path / "index").recall_at_10 == index.recall_at_10
    loaded = load_index(tmp_path / "index", FINGERPRINT)
    assert isinstance(loaded, ScannIndex)
    assert (loaded.recall_at_10, loaded.settings) == (index.recall_at_10, index.settings)


def test_recall_below_the_minimum_is_refused():
    with pytest.raises(
        IndexContractError, match=r"recall@10 of 0\.\d+ against exact search"
    ) as caught:
        ScannIndex.build(isotropic(), NARROW)
    assert "leave out the settings of searches" in str(caught.value)
    poor = ScannIndex.build(isotropic(), replace(NARROW, minimum_recall=0.0))
    assert 0 < poor.recall_at_10 < 0.95


def test_recall_is_measured_with_the_queries_that_are_given(clustered: EmbeddingTable):
    between = clustered.vectors[::100] + clustered.vectors[50::100]
    index = ScannIndex.build(clustered, replace(NARROW, minimum_recall=0.0), sample_queries=between)
    found = [set(row) for row in index.search(between, 10).rows.tolist()]
    exact = build_index("numpy", clustered.ids, clustered.vectors).search(between, 10).rows.tolist()
    hits = [len(ours & set(best)) for ours, best in zip(found, exact, strict=True)]
    assert index.recall_at_10 == pytest.approx(sum(hits) / (10 * len(between)))


def test_a_query_whose_leaves_run_short_is_answered_exactly(clustered: EmbeddingTable):
    index = ScannIndex.build(clustered, replace(NARROW, minimum_recall=0.0))
    exact = build_index("numpy", clustered.ids, clustered.vectors)
    queries = clustered.vectors[:3]
    np.testing.assert_array_equal(index.search(queries, 400).rows, exact.search(queries, 400).rows)


def test_exclusions_reach_beyond_the_candidates(clustered: EmbeddingTable):
    index = ScannIndex.build(clustered, TREE)
    best = index.search(clustered.vectors[:1], 60).rows[0]
    kept = index.search(clustered.vectors[:1], 1, [best[:59].tolist()])
    assert kept.rows.tolist() == [[best[59]]]


def test_a_tree_needs_rows_to_train_on():
    with pytest.raises(ConfigError, match="a tree needs at least 16 rows, there are 15"):
        ScannSettings(method="tree").resolved(15)


def test_settings_resolve_by_size():
    assert ScannSettings().resolved(19_999).method == "brute_force"
    large = ScannSettings().resolved(40_000)
    assert (large.method, large.leaves, large.leaves_to_search) == ("tree", 200, None)


@pytest.mark.parametrize(
    "settings",
    [{"leaves": 0}, {"candidates": 0}, {"minimum_recall": 1.5}, {"leaves_to_search": -1}],
)
def test_settings_out_of_range_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="scann"):
        ScannSettings(**settings)


@pytest.mark.parametrize("settings", [{"leaves": 11}, {"leaves": 4, "leaves_to_search": 5}])
def test_leaves_fit_the_rows(settings: dict):
    with pytest.raises(ConfigError, match="may not exceed the next"):
        ScannSettings(**settings).resolved(10)


def test_a_machine_without_scann_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    with pytest.raises(UnsupportedError, match="use the kind 'jax' or 'numpy'"):
        ScannIndex.build(isotropic(rows=20))


def test_a_planted_pickle_is_never_loaded(clustered: EmbeddingTable, tmp_path: Path):
    ScannIndex.build(clustered, TREE).save(tmp_path / "index", FINGERPRINT)
    (tmp_path / "index" / "scann" / "scann_docids.pkl").write_bytes(b"cos\nsystem\n.")
    with pytest.raises(CorruptIndexError, match=r"scann/scann_docids\.pkl is not in the manifest"):
        load_index(tmp_path / "index", FINGERPRINT)


def test_spilling_is_tried_where_few_leaves_are_not_enough(monkeypatch: pytest.MonkeyPatch):
    trained = []
    train = ScannIndex.train

    def noted(table: EmbeddingTable, settings: ScannSettings):
        trained.append(settings.spilling)
        return train(table, settings)

    monkeypatch.setattr(ScannIndex, "train", staticmethod(noted))
    tree = ScannSettings(method="tree", leaves=16)
    index = ScannIndex.build(isotropic(), tree)
    assert trained == [False, True]
    assert index.recall_at_10 >= 0.95
    trained.clear()
    ScannIndex.build(isotropic(), replace(tree, spilling=False))
    assert trained == [False]
