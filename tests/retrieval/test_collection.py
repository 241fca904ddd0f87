from dataclasses import replace

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import Collection, Document, Query


def test_full_text_has_the_title_on_its_own_line():
    assert Document(id="a", text="body", title="Title").full_text == "Title\nbody"
    assert Document(id="a", text="body").full_text == "body"


@pytest.mark.parametrize("text", ["", "  \n", "half \ud800"])
def test_documents_and_queries_refuse_texts_that_are_blank_or_no_utf8(text: str):
    with pytest.raises(DataError, match="document 'a'"):
        Document(id="a", text=text)
    with pytest.raises(DataError, match="query 'a'"):
        Query(id="a", text=text)


@pytest.mark.parametrize("identifier", ["", " ", "tab\there", "line\nfeed", "\udfff"])
def test_ids_that_no_file_could_hold_are_refused(identifier: str):
    with pytest.raises(DataError, match="document"):
        Document(id=identifier, text="text")


def test_a_blank_title_is_refused_but_none_is_fine():
    with pytest.raises(DataError, match="title of document 'a'"):
        Document(id="a", text="text", title=" ")


def test_an_id_may_occur_once_only(collection: Collection):
    with pytest.raises(DataError, match="pets: the document 'cat' occurs twice"):
        replace(collection, documents=(*collection.documents, collection.documents[0]))
    with pytest.raises(DataError, match="pets: the query 'q1' occurs twice"):
        replace(collection, queries=(*collection.queries, collection.queries[0]))


@pytest.mark.parametrize(
    ("field", "kind"), [("qrels", dict), ("excluded", lambda **ids: frozenset(ids))]
)
def test_judgments_and_exclusions_name_known_ids_only(collection: Collection, field: str, kind):
    with pytest.raises(DataError, match="unknown query 'q9'"):
        replace(collection, **{field: {"q9": kind(cat=1)}})
    with pytest.raises(DataError, match="'q1' name the unknown document 'cow'"):
        replace(collection, **{field: {"q1": kind(cow=1)}})


def test_gold_is_what_shares_the_best_positive_grade(collection: Collection):
    assert collection.gold_titles("q1") == ("Cats",)
    assert collection.gold_titles("q2") == ("A dog barks and guards the house.",)
    two = replace(collection, qrels={"q1": {"mouse": 1, "cat": 1, "dog": 0}})
    assert [document.id for document in two.gold_documents("q1")] == ["cat", "mouse"]
    none = replace(collection, qrels={"q1": {"cat": 0}})
    assert none.gold_titles("q1") == none.gold_titles("q2") == ()


def test_the_data_hash_knows_content_and_not_order(collection: Collection):
    reordered = replace(collection, documents=collection.documents[::-1])
    retitled = replace(
        collection,
        documents=(replace(collection.documents[0], title=""), *collection.documents[1:]),
    )
    assert reordered.data_hash == collection.data_hash != retitled.data_hash
    assert len(collection.data_hash) == 64


@pytest.mark.parametrize(
    "change",
    [
        {"qrels": {"q1": {"cat": 1, "mouse": 1}, "q2": {"dog": 1, "cat": 0}, "q3": {"a fish": 1}}},
        {"excluded": {}},
        {
            "queries": (
                Query(id="q1", text="who purrs"),
                Query(id="q2", text="b"),
                Query(id="q3", text="c"),
            )
        },
    ],
)
def test_the_judgment_hash_knows_texts_grades_and_exclusions(collection: Collection, change: dict):
    assert replace(collection, **change).qrels_hash != collection.qrels_hash
    assert replace(collection, queries=collection.queries[::-1]).qrels_hash == (
        collection.qrels_hash
    )


def test_subsets_are_deterministic_nested_and_whole(collection: Collection):
    one, two = collection.subset_queries(1, seed=3), collection.subset_queries(2, seed=3)
    assert set(one.qrels) < set(two.qrels)
    assert two == collection.subset_queries(2, seed=3)
    assert two.queries == tuple(query for query in collection.queries if query.id in two.qrels)
    assert set(two.excluded) <= set(two.qrels)
    assert collection.subset_queries(9) == collection
    assert len({collection.subset_queries(1, seed=seed).queries for seed in range(20)}) == 3
    with pytest.raises(DataError, match="at least 1"):
        collection.subset_queries(0)
