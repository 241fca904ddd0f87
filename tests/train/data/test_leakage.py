from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, DataError
from t1_jax.train.data import (
    LeakConfig,
    TrainingRecord,
    find_leaks,
    normalize_text,
    refuse_leaks,
    remove_leaks,
    text_hash,
)
from t1_jax.train.data.leakage import merge_duplicates
from tests.train.data.toys import held_out, trained_on

LONG = "a web server does not check the length of a header before it copies it"


def similarity(a: str, b: str, size: int) -> float:
    """Jaccard similarity of shingles, written out."""

    def runs(text: str) -> set[str]:
        text = normalize_text(text)
        return {text[i : i + size] for i in range(len(text) - size + 1)} or {text}

    return len(runs(a) & runs(b)) / len(runs(a) | runs(b))


def test_leaks_leave_the_training_data_and_are_counted():
    item = trained_on("Who  PURRS?", LONG + " twice", "something else", "Something  else")
    exam = held_out({"e1": "who purrs?", "e2": LONG})
    (cleaned,), report = remove_leaks([item], [exam])
    assert [record.query_id for record in cleaned.records] == ["q2"]
    assert (report.exact, report.near, report.merged) == (1, 1, 1)
    exact, near = report.leaks
    assert (exact.query_id, exact.held_out, exact.held_out_query) == ("q0", "exam", "e1")
    assert (exact.exact, exact.similarity) == (True, 1.0)
    assert (near.query_id, near.held_out_query, near.exact) == ("q1", "e2", False)
    assert near.similarity == pytest.approx(similarity(LONG + " twice", LONG, 5))


def test_every_held_out_collection_counts_for_every_set():
    sets = [trained_on("one", "two", name="a"), trained_on("three", "four", name="b")]
    exams = [held_out({"e": "four"}, "x"), held_out({"e": "one"}, "y")]
    cleaned, report = remove_leaks(sets, exams)
    assert [[r.query for r in item.records] for item in cleaned] == [["two"], ["three"]]
    assert {(leak.set_name, leak.held_out) for leak in report.leaks} == {("a", "y"), ("b", "x")}


def test_a_thought_that_is_a_test_query_is_a_leak():
    item = trained_on("one", "two")
    taught = replace(item, records=(replace(item.records[0], thoughts=("Three",)), item.records[1]))
    with pytest.raises(DataError, match="the record of query 'q0' has the text of query 'e'"):
        refuse_leaks([taught], [held_out({"e": "three"})])


def test_a_test_text_in_the_training_data_is_refused():
    item = trained_on("one", "two", "three")
    refuse_leaks([item], [held_out({"e": "four"})])
    with pytest.raises(
        DataError, match=r"set: the record of query 'q1' .* query 'e', which exam.*\(and 1 more"
    ):
        refuse_leaks([item], [held_out({"e": " TWO", "f": "three"})])


def test_a_set_that_is_all_leaks_is_refused():
    with pytest.raises(DataError, match="every record of the training set 'set'"):
        remove_leaks([trained_on("one")], [held_out({"e": "one"})])


def test_near_is_a_matter_of_the_threshold():
    a, b = "abcdefghij", "abcdefghiX"
    value = similarity(a, b, 5)
    for near, found in ((value, 1), (value + 1e-6, 0)):
        leaks = find_leaks([trained_on(a)], [held_out({"e": b})], LeakConfig(near=near))
        assert len(leaks) == found


short = st.text("ab ", min_size=1, max_size=12).filter(str.strip)


@given(
    st.lists(short, min_size=1, max_size=6),
    st.lists(short, min_size=1, max_size=6),
    st.sampled_from([0.2, 0.5, 0.75, 0.8, 1.0]),
    st.integers(1, 5),
)
def test_the_index_misses_nothing(trained: list[str], tested: list[str], near: float, size: int):
    leaks = find_leaks(
        [trained_on(*trained)],
        [held_out({f"e{i}": text for i, text in enumerate(tested)})],
        LeakConfig(near=near, shingle=size),
    )
    best = {f"q{i}": max(similarity(a, b, size) for b in tested) for i, a in enumerate(trained)}
    assert {leak.query_id: leak.similarity for leak in leaks} == {
        name: pytest.approx(value) for name, value in best.items() if value >= near
    }
    keys = [(leak.exact, leak.similarity) for leak in leaks]
    assert keys == sorted(keys, reverse=True)


def test_repeats_become_one_record():
    def record(query_id: str, **fields: Any) -> TrainingRecord:
        whole: dict[str, Any] = {"query": "who purrs?", "query_id": query_id} | fields
        return TrainingRecord(**whole)

    merged = merge_duplicates(
        [
            record("a", positives={"cat": 1}, negatives=("lion", "dog"), thoughts=("x",)),
            record("other", positives={"cat": 1}, instruction="Find"),
            record(
                "b",
                query="Who  purrs?",
                positives={"lion": 2, "cat": 3},
                negatives=("cow", "dog"),
                excluded=frozenset({"ox"}),
                thoughts=("y", "x"),
            ),
            record("c", positives={"puma": 1}, excluded=frozenset({"cow", "lion"})),
        ]
    )
    assert merged == (
        record(
            "a",
            positives={"cat": 3, "lion": 2, "puma": 1},
            negatives=("dog",),
            excluded=frozenset({"ox", "cow"}),
            thoughts=("x", "y"),
        ),
        record("other", positives={"cat": 1}, instruction="Find"),
    )


@pytest.mark.parametrize("fields", [{"near": 0.0}, {"near": 1.1}, {"shingle": 0}])
def test_impossible_settings_are_refused(fields: dict[str, Any]):
    with pytest.raises(ConfigError, match=f"{next(iter(fields))} must be"):
        LeakConfig(**fields)


@pytest.mark.parametrize(
    ("text", "same"),
    [(" Two\n\twords ", "two words"), ("ﬁle", "file"), ("STRASSE", "straße"), ("x=1", "X=1")],
)
def test_texts_that_a_reader_takes_for_one(text: str, same: str):
    assert normalize_text(text) == normalize_text(same)
    assert text_hash(text) == text_hash(same)


def test_punctuation_makes_another_text():
    assert text_hash("a = b") != text_hash("a == b")
    assert len(text_hash("a")) == 32
