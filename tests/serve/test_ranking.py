"""Rankings of known vectors: filters, fusion, and an index that changes on disk."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from t1_jax.retrieval import Document, SourceLocation, build_index
from t1_jax.retriever import Verification
from t1_jax.serve.ranking import Corpus, DocumentFilter, SearchOptions

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


def options(corpus: Corpus, k: int = 4, only: DocumentFilter | None = None) -> SearchOptions:
    return SearchOptions(
        k=k,
        ranking="dense",
        fusion="mean",
        verification=None,
        excluded=corpus.excluded(only or DocumentFilter()),
        deadline=0.0,
    )


def found(
    corpus: Corpus, vectors: np.ndarray, k: int = 4, only: DocumentFilter | None = None
) -> list[str]:
    asked = options(corpus, k, only)
    (rankings,) = corpus.retrieve(["text"], [vectors.astype(np.float32)], asked)
    return [hit.id for hit in corpus.hits("text", rankings, asked)]


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
    asked = options(corpus)
    (rankings,) = corpus.retrieve(["text"], [thoughts.astype(np.float32)], asked)
    hits = corpus.hits("text", rankings, asked)
    scores = {hit.id: hit.score for hit in hits}
    ranks = {"a": (1, 4, 3), "b": (2, 2, 1), "c": (3, 3, 2), "d": (4, 1, 4)}
    for name, places in ranks.items():
        assert scores[name] == pytest.approx(sum(1 / (60 + place) for place in places))
    assert [hit.id for hit in hits] == ["b", "a", "c", "d"]


def test_a_batch_is_that_of_each_query_alone(corpus: Corpus):
    vectors = np.random.default_rng(0).random((5, 4)).astype(np.float32)
    groups = [vectors[:1], vectors[1:4], vectors[4:]]  # the second query has three thoughts
    asked = options(corpus, only=DocumentFilter(exclude=frozenset({"b"})))
    together = corpus.retrieve(["x", "y", "z"], groups, asked)
    for group, rankings in zip(groups, together, strict=True):
        assert corpus.retrieve(["x"], [group], asked) == [rankings]
        assert set(rankings.dense) == {"a", "c", "d"}
    assert [rankings.has_cosines for rankings in together] == [True, False, True]


@pytest.mark.parametrize(("k", "verified", "depth"), [(10, 16, 100), (200, 16, 200), (2, 300, 300)])
def test_as_many_documents_are_found_as_are_verified(
    corpus: Corpus, k: int, verified: int, depth: int
):
    asked = dataclasses.replace(options(corpus, k), verification=Verification(k=verified))
    assert asked.depth == depth


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
