"""The benchmark of indexes measures every back end on queries that it did not tune with."""

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks import index
from t1_jax.retrieval import Fingerprint, build_index


def test_a_table_of_back_ends_at_equal_recall(tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(index, "_TUNING", 20)
    given = ["--rows", "600", "--width", "8", "--only", "numpy,jax,ScaNN"]
    assert index.main([*given, "--recall", "0.8", "0.95", "--output", str(tmp_path)]) == 0
    rows = json.loads((tmp_path / "index.json").read_text())
    assert [(row["name"], row["asked"]) for row in rows] == [
        ("numpy", 1.0), ("jax", 1.0), ("ScaNN", 0.8), ("ScaNN", 0.95)
    ]  # fmt: skip
    assert all(row["queries_per_second"] > 0 for row in rows)
    assert [row["recall_at_10"] for row in rows[:2]] == [1, 1]
    assert all(row["recall_at_10"] > 0.5 for row in rows[2:])
    table = (tmp_path / "index.md").read_text().splitlines()
    assert len(table) == 2 + len(rows)
    assert "leaves 41, leaves_to_search" in table[-1]


def test_real_embeddings_are_held_out_as_queries(tmp_path: Path):
    vectors = np.random.default_rng(0).standard_normal((300, 8)).astype(np.float32)
    fingerprint = Fingerprint(encoder="e0", prompt="f0", data="d0")
    build_index("numpy", [str(row) for row in range(300)], vectors).save(
        tmp_path / "vectors", fingerprint
    )
    documents, queries = index._vectors(index._parse(["--vectors", str(tmp_path / "vectors")]))
    assert (len(documents), len(queries)) == (270, 30)
    assert (documents @ queries.T).max() < 0.99999


def test_clustered_vectors_lie_around_their_centers():
    vectors = index.clustered(500, 64)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    nearest = np.sort(vectors @ vectors.T, axis=1)[:, -10:]
    assert nearest.mean() == pytest.approx(0.85, abs=0.06)
