"""Rankings of known vectors: filters, fusion, and an index that changes on disk."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from t1_jax.retrieval import Document, SourceLocation, build_index
from t1_jax.serve.ranking import Corpus, DocumentFilter

IDS = ["a", "b", "c", "d"]
VECTORS = np.eye(4, dtype=np.float32)


@pytest.fixture
def corpus() -> Corpus:
    documents = {
        name: Document(
            id=name, text=f"text {name}.", location=SourceLocation(path=Path(path), line=3)
        )
        for name, path in zip(IDS, ["x.md", "guides/y.md", "guides/z.txt", "w.md"], strict=True)
    }
    return Corpus(name="four", index=build_index("numpy", IDS, VECTORS), documents=documents)


def found(corpus: Corpus, vectors: np.ndarray, k: int = 4, **options) -> list[str]:
    hits = corpus.search("text", vectors.astype(np.float32), k, ranking="dense", **options)
    return [hit.id for hit in hits]


def test_filters(corpus: Corpus):
    query = np.array([[0.4, 0.3, 0.2, 0.1]])
    assert found(corpus, query, 2) == ["a", "b"]
    assert found(corpus, query, only=DocumentFilter(exclude=frozenset({"a"}))) == ["b", "c", "d"]
    assert found(corpus, query, only=DocumentFilter(ids=frozenset({"d", "c"}))) == ["c", "d"]
    assert found(corpus, query, only=DocumentFilter(path="guides/*")) == ["b", "c"]
    assert found(corpus, query, only=DocumentFilter(path="*.md")) == ["a", "b", "d"]
    assert found(corpus, query, only=DocumentFilter(ids=frozenset({"nothing"}))) == []
    bare = dataclasses.replace(corpus, documents={})
    assert found(bare, query, only=DocumentFilter(path="*")) == []


def test_rank_fusion_sums_reciprocal_ranks(corpus: Corpus):
    thoughts = np.array([[0.9, 0.5, 0.1, 0.0], [0.0, 0.5, 0.1, 0.9], [0.1, 0.9, 0.5, 0.0]])
    hits = corpus.search("text", thoughts.astype(np.float32), 4, ranking="dense", fusion="rank")
    scores = {hit.id: hit.score for hit in hits}
    ranks = {"a": (1, 4, 3), "b": (2, 2, 1), "c": (3, 3, 2), "d": (4, 1, 4)}
    for name, places in ranks.items():
        assert scores[name] == pytest.approx(sum(1 / (60 + place) for place in places))
    assert [hit.id for hit in hits] == ["b", "a", "c", "d"]


def test_a_changed_index_is_told(corpus: Corpus, tmp_path: Path):
    manifest = tmp_path / "manifest.json"
    manifest.write_text("{}")
    kept = dataclasses.replace(corpus, manifest=manifest)
    assert not kept.changed_on_disk
    replacement = tmp_path / "new.json"
    replacement.write_text("{}")
    replacement.replace(manifest)
    assert kept.changed_on_disk
    assert not dataclasses.replace(corpus, manifest=manifest).changed_on_disk
    manifest.unlink()
    assert kept.changed_on_disk
    assert found(kept, VECTORS[2:3], 1) == ["c"]
