"""BM25 with a weighted query: by hand, and as gensim's LuceneBM25Model computed it."""

import math

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import BM25QS, Collection, Document, Query

TEXTS = {
    "a": "The cats' psychology: a cat purrs, purrs and purrs.",
    "b": "A dog barks at the cat",
    "c": "Dogs and cats fight in psychological experiments, psychologists say.",
    "d": "!?",
}
COLLECTION = Collection(
    name="pets",
    documents=tuple(Document(id=name, text=text) for name, text in TEXTS.items()),
    queries=(),
    qrels={},
)


def search(text: str, k: int = 10, **options) -> dict[str, float]:
    return BM25QS.build(COLLECTION).search([Query(id="q", text=text)], k, **options)["q"]


def test_scores_follow_the_formula():
    """The query has "cat" twice, "dog", and a word that no document has."""
    lengths = {"a": 6, "b": 3, "c": 7, "d": 0, "query": 3}
    counts = {"cat": {"a": 2, "b": 1, "c": 1, "query": 2}, "dog": {"b": 1, "c": 1, "query": 1}}
    df = {"cat": 3, "dog": 2}

    def weight(term: str, text: str) -> float:
        tf = counts[term].get(text, 0)
        norm = 0.9 * (1 - 0.4 + 0.4 * lengths[text] / (16 / 4))
        return math.log((4 + 1) / (df[term] + 0.5)) * tf / (tf + norm)

    found = search("Cat, cat, dog and xylophone?")
    assert list(found) == ["b", "c", "a"]
    for name, score in found.items():
        expected = sum(weight(term, "query") * weight(term, name) for term in df)
        assert score == pytest.approx(expected, rel=1e-6)


def test_scores_are_those_of_gensim():
    """LuceneBM25Model and SparseMatrixSimilarity of gensim 4.4, called as BRIGHT's harness does."""
    found = search("psychological experiments: do cats purr? Cats purr!")
    assert list(found) == ["a", "c", "b"]
    assert list(found.values()) == pytest.approx([0.85680103, 0.46566582, 0.04564003], rel=1e-6)


def test_excluded_documents_leave_before_the_cut():
    assert list(search("dog", 1)) == ["b"]
    assert list(search("dog", 1, excluded={"q": frozenset({"b"})})) == ["c"]


def test_queries_without_a_known_term_find_nothing():
    assert search("the xylophone") == {}
    assert search("!?") == {}


def test_parameters_and_corpora_that_it_cannot_index():
    with pytest.raises(ConfigError, match="k1 >= 0 and 0 <= b <= 1"):
        BM25QS.build(COLLECTION, b=2.0)
    empty = Collection(name="pets", documents=COLLECTION.documents[3:], queries=(), qrels={})
    with pytest.raises(DataError, match="documents of pets contain no word"):
        BM25QS.build(empty)
