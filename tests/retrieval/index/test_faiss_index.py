"""FAISS: settings, files, and recall; what all back ends share is in test_protocol.py."""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.retrieval import (
    CorruptIndexError,
    FaissSettings,
    Fingerprint,
    build_index,
    load_index,
    verify_index,
)
from t1_jax.retrieval.index import EmbeddingTable

FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")


@pytest.fixture(scope="module")
def clustered() -> EmbeddingTable:
    pytest.importorskip("faiss", reason="needs t1_jax[faiss]")
    rng = np.random.default_rng(0)
    centers = rng.standard_normal((16, 16)).repeat(50, axis=0)
    return EmbeddingTable.from_vectors(
        [str(row) for row in range(800)], centers + 0.2 * rng.standard_normal((800, 16))
    )


@pytest.mark.parametrize("method", ["flat", "hnsw", "ivf_pq"])
def test_settings_are_measured_stored_and_loaded(method, clustered, tmp_path: Path):
    index = build_index(
        "faiss", clustered.ids, clustered.vectors, faiss=FaissSettings(method=method)
    )
    index.save(tmp_path / "index", FINGERPRINT)
    manifest = verify_index(tmp_path / "index")
    assert 0.95 <= manifest.recall_at_10 <= 1
    assert manifest.settings["method"] == method
    assert manifest.measured["recall_with"] == "256 documents"
    if method == "hnsw":
        assert manifest.settings["ef_search"] is not None
    if method == "ivf_pq":
        assert manifest.settings["lists"] == 28
        assert manifest.settings["lists_to_search"] is not None
    loaded = load_index(tmp_path / "index", FINGERPRINT)
    queries = clustered.vectors[:20]
    np.testing.assert_array_equal(loaded.search(queries, 5).rows, index.search(queries, 5).rows)


def test_files_have_no_second_copy_of_the_vectors(clustered, tmp_path: Path):
    for method in ("hnsw", "ivf_pq"):
        settings = FaissSettings(method=method, neighbors=4, minimum_recall=0.1)
        index = build_index("faiss", clustered.ids, clustered.vectors, faiss=settings)
        index.save(tmp_path / method, FINGERPRINT)
        size = (tmp_path / method / "faiss" / "index.faiss").stat().st_size
        assert size < clustered.vectors.nbytes


def test_a_file_that_faiss_cannot_read_is_damage(clustered, tmp_path: Path, monkeypatch):
    settings = FaissSettings(method="hnsw")
    build_index("faiss", clustered.ids, clustered.vectors, faiss=settings).save(
        tmp_path / "index", FINGERPRINT
    )
    monkeypatch.setattr("t1_jax.retrieval.index.store.HASHED_BYTES", 0)
    path = tmp_path / "index" / "faiss" / "index.faiss"
    path.write_bytes(b"x" * path.stat().st_size)
    with pytest.raises(CorruptIndexError, match="FAISS cannot load"):
        load_index(tmp_path / "index", FINGERPRINT)


def test_settings_resolve_by_size_and_dimensions():
    assert FaissSettings().resolved(19_999, 64).method == "flat"
    large = FaissSettings().resolved(40_000, 576)
    assert (large.method, large.lists, large.dimensions_per_block) == ("ivf_pq", 200, 2)
    assert FaissSettings().resolved(40_000, 15).dimensions_per_block == 3
    with pytest.raises(ConfigError, match="blocks of 4 dimensions do not divide 15 dimensions"):
        FaissSettings(dimensions_per_block=4).resolved(40_000, 15)
    with pytest.raises(ConfigError, match="ivf_pq needs at least 16 rows, there are 15"):
        FaissSettings(method="ivf_pq").resolved(15, 8)
    with pytest.raises(ConfigError, match="may not exceed the next"):
        FaissSettings(method="ivf_pq", lists=4, lists_to_search=5).resolved(100, 8)


@pytest.mark.parametrize(
    "settings",
    [{"lists": 0}, {"candidates": 0}, {"minimum_recall": 1.5}, {"neighbors": 1}, {"ef_search": 0}],
)
def test_settings_out_of_range_are_refused(settings: dict):
    with pytest.raises(ConfigError, match="faiss"):
        replace(FaissSettings(), **settings)


def test_a_machine_without_faiss_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "faiss", None)
    with pytest.raises(UnsupportedError, match=r"FAISS is not installed\n.*t1_jax\[faiss\]"):
        build_index("faiss", ["a"], np.ones((1, 2)))
