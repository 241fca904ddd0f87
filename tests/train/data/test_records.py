from dataclasses import replace
from typing import Any

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import Collection, Document, Query
from t1_jax.train.data import TrainingRecord, TrainingSet, records_from_collection
from t1_jax.train.data.records import sets_by_name
from tests.train.data.toys import documents, training_set

RECORD = TrainingRecord(
    query_id="q",
    query="who purrs?",
    positives={"cat": 2, "lion": 2, "lynx": 1},
    negatives=("dog", "mouse"),
    excluded=frozenset({"wolf"}),
    thoughts=("An animal that purrs.",),
    instruction="Find the animal",
)


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"query_id": " "}, "query ' ': the id is empty"),
        ({"query": " \n"}, "query 'q': query: the text is empty"),
        ({"query": "\ud800"}, "half of a surrogate"),
        ({"positives": {}}, "it has no positive"),
        ({"positives": {"cat": 0}}, "the positive 'cat' has grade 0, below 1"),
        ({"positives": {"cat": 10**9}}, "has grade 1000000000, above 999999"),
        ({"positives": {"a\tb": 1}}, "control character"),
        ({"positives": {"dog": 1}}, "'dog' is both positive and negative"),
        ({"positives": {"wolf": 1}}, "'wolf' is both positive and excluded"),
        ({"excluded": frozenset({"mouse"})}, "'mouse' is both negative and excluded"),
        ({"negatives": ("dog", "dog")}, "the negative 'dog' occurs twice"),
        ({"thoughts": ("good", "\t")}, "thought: the text is empty"),
        ({"thoughts": ("so <emb_token>",)}, "thought contains the text <emb_token>\n  hint: del"),
        ({"instruction": ""}, "instruction: the text is empty"),
    ],
)
def test_a_record_keeps_its_word(change: dict[str, Any], fault: str):
    with pytest.raises(DataError, match=fault):
        replace(RECORD, **change)


def test_the_best_positives_share_the_best_grade():
    assert RECORD.best_positives == ("cat", "lion")


def test_a_set_names_the_query_and_the_document_that_is_not_there():
    records = (
        TrainingRecord(query_id="a", query="x", positives={"d0": 1}),
        TrainingRecord(query_id="b", query="y", positives={"d0": 1, "gone": 1}),
    )
    with pytest.raises(DataError, match="pets: query 'b' names the document 'gone'.*corpus\n"):
        TrainingSet(name="pets", records=records, documents=documents(1))
    with pytest.raises(DataError, match=r"names the document 'd0'.*\(and 2 more such ids\)"):
        TrainingSet(name="pets", records=records, documents={})


@pytest.mark.parametrize("field", ["negatives", "excluded"])
def test_negatives_and_exclusions_are_looked_up_too(field: str):
    names: dict[str, Any] = {"negatives": ("gone",), "excluded": frozenset({"gone"})}
    record = replace(
        TrainingRecord(query_id="a", query="x", positives={"d0": 1}), **{field: names[field]}
    )
    with pytest.raises(DataError, match="'gone', which is not in the corpus"):
        TrainingSet(name="pets", records=(record,), documents=documents(1))


def test_a_set_has_records_and_no_id_twice():
    record = TrainingRecord(query_id="a", query="x", positives={"d0": 1})
    with pytest.raises(DataError, match="'pets' has no record"):
        TrainingSet(name="pets", records=(), documents={})
    with pytest.raises(DataError, match="pets: the query 'a' occurs twice"):
        TrainingSet(name="pets", records=(record, record), documents=documents(1))


def test_sets_have_names_of_their_own():
    one = training_set("one", 2)
    with pytest.raises(DataError, match="two training sets share a name; got one, one"):
        sets_by_name([one, one])
    with pytest.raises(DataError, match="no training set"):
        sets_by_name([])


def test_the_hash_covers_records_and_documents():
    item = training_set("one", 3)
    other_text = dict(item.documents, d1=Document(id="d1", text="something else"))
    other_thought = (replace(item.records[0], thoughts=("new",)), *item.records[1:])
    backwards = dict(reversed([*item.documents.items()]))
    assert item.data_hash == replace(item, documents=backwards).data_hash
    assert item.data_hash != replace(item, documents=other_text).data_hash
    assert item.data_hash != replace(item, records=other_thought).data_hash


def test_documents_of_equal_text_share_a_key():
    corpus = documents(2) | {"copy": Document(id="copy", text="Document  number 0")}
    item = replace(training_set("one", 1, negatives=0), documents=corpus | documents(3))
    assert item.text_hash("copy") == item.text_hash("d0") != item.text_hash("d1")


def test_rankings_read_each_text_once():
    texts = {"a": "one", "a2": "One", "b": "two", "b2": "two ", "x": "ex", "x2": "ex", "q": "why?"}
    record = TrainingRecord(
        query_id="q0",
        query="Why?",
        positives={"a": 3, "b": 1, "b2": 2},
        negatives=("a2", "n"),
        excluded=frozenset({"x"}),
        thoughts=("because",),
    )
    item = TrainingSet(
        name="s",
        records=(record,),
        documents={key: Document(id=key, text=text) for key, text in texts.items()}
        | {"n": Document(id="n", text="no")},
    )
    assert item.for_ranking(record) == replace(
        record,
        positives={"a": 3, "b2": 2},
        negatives=("n",),
        excluded=frozenset({"a2", "b", "x", "x2", "q"}),
    )
    # A positive that says what the query says stays one.
    twin = replace(record, query_id="q1", positives={"q": 1}, negatives=(), excluded=frozenset())
    assert item.for_ranking(twin) == twin


def test_records_of_a_collection():
    collection = Collection(
        name="pets",
        documents=tuple(documents(3).values()),
        queries=(Query(id="a", text="x"), Query(id="b", text="y"), Query(id="c", text="z")),
        qrels={"a": {"d0": 2, "d1": 0}, "b": {"d1": 0}},
        excluded={"a": frozenset({"d2"})},
    )
    assert records_from_collection(collection) == (
        TrainingRecord(query_id="a", query="x", positives={"d0": 2}, excluded=frozenset({"d2"})),
    )
