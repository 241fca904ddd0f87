import math
from dataclasses import replace

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import BM25, Collection, Document, Query


def test_it_finds_the_document_that_shares_the_stem(collection: Collection):
    run = BM25.build(collection).search(collection.queries, 10)
    assert next(iter(run["q1"])) == "cat"
    assert next(iter(run["q2"])) == "dog"
    assert list(run["q3"]) == ["a fish"]


def test_scores_follow_the_formula():
    documents = (Document(id="a", text="red red blue"), Document(id="b", text="green"))
    collection = Collection(name="c", documents=documents, queries=(), qrels={})
    run = BM25.build(collection, k1=1.2, b=0.5).search([Query(id="q", text="red reds")], 10)
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    weight = idf * 2 / (2 + 1.2 * (1 - 0.5 + 0.5 * 3 / 2))
    assert run == {"q": {"a": pytest.approx(2 * weight, rel=1e-6)}}


def test_excluded_documents_leave_before_the_cut(collection: Collection):
    query = Query(id="q", text="cat and mice")
    bm25 = BM25.build(collection)
    assert list(bm25.search([query], 1)["q"]) == ["cat"]
    assert list(bm25.search([query], 1, {"q": frozenset({"cat"})})["q"]) == ["mouse"]


def test_ties_go_by_id_descending():
    documents = tuple(Document(id=key, text="same words") for key in ("1", "3", "2"))
    collection = Collection(name="c", documents=documents, queries=(), qrels={})
    run = BM25.build(collection).search([Query(id="q", text="words")], 2)
    assert list(run["q"]) == ["3", "2"]


def test_queries_without_a_known_word_find_nothing(collection: Collection):
    queries = [Query(id="stop", text="the and of"), Query(id="new", text="xylophone")]
    assert BM25.build(collection).search(queries, 5) == {"stop": {}, "new": {}}


def test_documents_without_words_are_carried_along(collection: Collection):
    silent = replace(collection, documents=(Document(id="!", text="!?"), *collection.documents))
    assert next(iter(BM25.build(silent).search(collection.queries, 1)["q1"])) == "cat"
    with pytest.raises(DataError, match="no word in the documents of pets"):
        BM25.build(Collection(name="pets", documents=silent.documents[:1], queries=(), qrels={}))


@pytest.mark.parametrize("parameters", [{"k1": -1.0}, {"b": 1.5}, {"b": -0.1}])
def test_parameters_out_of_range_are_refused(collection: Collection, parameters: dict):
    with pytest.raises(ConfigError, match="k1 >= 0 and 0 <= b <= 1"):
        BM25.build(collection, **parameters)


def test_no_debug_messages_whoever_else_sets_up_logging(collection: Collection, caplog):
    BM25.build(collection)
    assert not caplog.records
