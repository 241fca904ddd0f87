"""What differs between two indexes."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t1_jax.retrieval import Document, Fingerprint, build_index, diff_indexes

FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")
IDS = [f"d{n:02d}" for n in range(30)]
VECTORS = np.random.default_rng(0).standard_normal((30, 8)).astype(np.float32)


def saved(folder: Path, ids=tuple(IDS), vectors=VECTORS, *, changed=(), encoder="e0") -> Path:
    documents = [
        Document(id=name, title="", text="other" if name in changed else name) for name in ids
    ]
    fingerprint = replace(FINGERPRINT, encoder=encoder)
    build_index("numpy", list(ids), vectors).save(
        folder, fingerprint, documents=documents, encoding={"dtype": "float32"}
    )
    return folder


def test_an_index_does_not_differ_from_its_copy(tmp_path: Path):
    diff = diff_indexes(saved(tmp_path / "a"), saved(tmp_path / "b"))
    assert diff.is_empty
    assert (diff.same, diff.overlap_at_10) == (30, 1)
    assert diff.lowest_cosine == pytest.approx(1)


def test_documents_embeddings_and_settings_that_differ_are_named(tmp_path: Path):
    drifted = VECTORS.copy()
    drifted[7] *= -1
    other = saved(tmp_path / "b", IDS[2:], drifted[2:], changed={"d05"}, encoder="e1")
    diff = diff_indexes(saved(tmp_path / "a"), other)
    assert not diff.is_empty
    assert (diff.only_a, diff.only_b, diff.changed) == (["d00", "d01"], [], ["d05"])
    assert diff.same == 27
    assert diff.settings == {"count": (30, 28), "fingerprint.encoder": ("e0", "e1")}
    assert diff.lowest_cosine == pytest.approx(-1)
    assert diff.overlap_at_10 is not None
    assert 0.5 < diff.overlap_at_10 < 1


def test_embeddings_of_other_dimensions_are_not_compared(tmp_path: Path):
    diff = diff_indexes(saved(tmp_path / "a"), saved(tmp_path / "b", vectors=VECTORS[:, :4]))
    assert diff.lowest_cosine is None
    assert diff.settings == {"width": (8, 4)}
    assert diff.overlap_at_10 is not None
