import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from t1_jax.errors import DataError
from t1_jax.train.data import TrainingRecord, read_records, write_records
from t1_jax.train.data.records import EMB_TOKEN

GOOD: dict[str, Any] = {"query_id": "q1", "query": "who purrs?", "positives": ["cat"]}

texts = st.text(st.characters(codec="utf-8"), min_size=1).filter(str.strip)
ids = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]), min_size=1, max_size=4)
thoughts = texts.filter(lambda text: EMB_TOKEN not in text)


# Fields rather than records: beartype checks a record with random numbers, which hypothesis bans.
@st.composite
def a_record(example: Callable, query_id: str) -> dict[str, object]:
    names = example(st.lists(ids, min_size=3, max_size=9, unique=True))
    cut = example(st.integers(1, len(names) - 1))
    return {
        "query_id": query_id,
        "query": example(texts),
        "positives": {name: example(st.integers(1, 999_999)) for name in names[:cut]},
        "negatives": tuple(names[cut:-1]),
        "excluded": frozenset(names[-1:]),
        "thoughts": tuple(example(st.lists(thoughts, max_size=3))),
        "instruction": example(st.none() | texts),
    }


many = st.lists(ids, min_size=1, max_size=4, unique=True).flatmap(
    lambda names: st.tuples(*(a_record(name) for name in names))
)


@pytest.mark.parametrize("ending", [".jsonl", ".parquet"])
@given(rows=many)
def test_what_is_written_is_read(
    tmp_path_factory: pytest.TempPathFactory, ending: str, rows: tuple[dict, ...]
):
    records = tuple(TrainingRecord(**row) for row in rows)
    path = tmp_path_factory.mktemp("records") / f"train{ending}"
    write_records(path, records)
    assert read_records(path) == records


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*GOOD, "thought", "negatives", "extra"]), json_values))
def test_any_object_is_a_record_or_a_fault_with_its_line(
    tmp_path_factory: pytest.TempPathFactory, fields: dict[str, object]
):
    path = tmp_path_factory.mktemp("records") / "train.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD | {'query_id': 'q2'} | fields)}\n")
    fault = ""
    try:
        read_records(path)
    except DataError as error:
        fault = error.message
    assert not fault or fault.startswith(f"{path}:2: ")
    # Whatever is not a fault is a record that can be written.
    if not fault:
        write_records(path, read_records(path))
        assert len(read_records(path)) == 2


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"positive": ["cat"]}, "unknown key 'positive'\n  hint: did you mean 'positives'?"),
        ({"query": None}, 'field "query" is missing; found'),
        ({"positives": None}, 'field "positives" is missing'),
        ({"query": 3}, 'field "query" must be a string, found int 3'),
        ({"query": ""}, 'field "query": the text is empty'),
        ({"query_id": ""}, 'field "query_id": the id is empty'),
        ({"positives": "cat"}, 'field "positives" must be a list of strings'),
        ({"positives": []}, "query 'q2': it has no positive"),
        ({"positives": {"cat": 1.5}}, "the grade of 'cat' must be an integer, found 1.5"),
        ({"positives": {"cat": float("inf")}}, "the grade of 'cat' must be an integer, found inf"),
        ({"positives": {"cat": True}}, "the grade of 'cat' must be an integer, found True"),
        ({"positives": {"cat": 0}}, "query 'q2': the positive 'cat' has grade 0, below 1"),
        ({"positives": ["cat", "cat"]}, 'field "positives" names a document twice'),
        ({"negatives": ["cat"]}, "'cat' is both positive and negative"),
        ({"excluded": ["cat"]}, "'cat' is both positive and excluded"),
        ({"excluded": {"dog": 1}}, 'field "excluded" must be a list of strings'),
        ({"thought": " "}, "thought: the text is empty"),
        ({"thought": 1}, 'field "thought" must be a string or a list of strings'),
        ({"thought": ["a", None]}, 'field "thought" must be a string or a list of strings'),
        ({"thought": "it purrs <emb_token>"}, "contains the text <emb_token>\n  hint: delete it"),
        ({"instruction": 1}, 'field "instruction" must be a string'),
        ({"query_id": "q1"}, "the query 'q1' occurred before, as number 1"),
    ],
)
def test_faults_name_file_and_line(tmp_path: Path, change: dict[str, object], fault: str):
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{json.dumps(GOOD | {'query_id': 'q2'} | change)}\n")
    with pytest.raises(DataError, match=rf"train\.jsonl:2: .*{re.escape(fault)}"):
        read_records(path)


@pytest.mark.parametrize(
    ("line", "fault"), [("", "the line is empty"), ("{", "malformed JSON"), ("[]", "found list")]
)
def test_lines_that_are_no_object(tmp_path: Path, line: str, fault: str):
    path = tmp_path / "train.jsonl"
    path.write_text(f"{json.dumps(GOOD)}\n{line}\n")
    with pytest.raises(DataError, match=rf"train\.jsonl:2: .*{fault}"):
        read_records(path)


def test_all_spellings_of_json(tmp_path: Path):
    path = tmp_path / "train.jsonl"
    whole = GOOD | {"negatives": ["dog"], "excluded": ["wolf"], "thought": ["a", "b"]}
    rows = [
        whole | {"instruction": "Find"},
        GOOD | {"query_id": "q2", "positives": {"cat": 3}, "thought": "a", "negatives": None},
    ]
    path.write_text("\n".join(json.dumps(row) for row in rows))
    assert read_records(path) == (
        TrainingRecord(
            query_id="q1",
            query="who purrs?",
            positives={"cat": 1},
            negatives=("dog",),
            excluded=frozenset({"wolf"}),
            thoughts=("a", "b"),
            instruction="Find",
        ),
        TrainingRecord(query_id="q2", query="who purrs?", positives={"cat": 3}, thoughts=("a",)),
    )


def test_several_files_are_one_set(tmp_path: Path):
    first, second = tmp_path / "first.jsonl", tmp_path / "second.jsonl"
    first.write_text(json.dumps(GOOD))
    second.write_text(json.dumps(GOOD | {"query_id": "q2"}))
    assert [record.query_id for record in read_records(first, second)] == ["q1", "q2"]
    second.write_text(f"{json.dumps(GOOD | {'query_id': 'q2'})}\n{json.dumps(GOOD)}\n")
    with pytest.raises(
        DataError, match=r"second\.jsonl:2: .*'q1' .* as number 1 of .*first\.jsonl"
    ):
        read_records(first, second)


def test_documents_that_the_corpus_does_not_have(tmp_path: Path):
    path = tmp_path / "train.jsonl"
    path.write_text(
        f"{json.dumps(GOOD)}\n{json.dumps(GOOD | {'query_id': 'q2', 'negatives': ['x']})}"
    )
    assert len(read_records(path, documents={"cat", "x"})) == 2
    with pytest.raises(DataError, match=r"train\.jsonl:2: the query 'q2' names the document 'x'"):
        read_records(path, documents={"cat"})


def _parquet(path: Path, rows: list[dict[str, Any]]) -> Path:
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


def test_parquet_with_lists_texts_and_nulls(tmp_path: Path):
    rows = [GOOD | {"thought": None}, GOOD | {"query_id": "q2", "thought": "a"}]
    first, second = read_records(_parquet(tmp_path / "train.parquet", rows))
    assert (first.positives, first.thoughts, second.thoughts) == ({"cat": 1}, (), ("a",))


def test_faults_of_parquet_name_file_and_row(tmp_path: Path):
    rows = [GOOD, GOOD | {"query_id": "q2", "query": ""}]
    path = _parquet(tmp_path / "train.parquet", rows)
    with pytest.raises(DataError, match=r'train\.parquet, row 2: field "query": the text is empty'):
        read_records(path)
    path = _parquet(path, [GOOD | {"querry": "x"}])
    with pytest.raises(
        DataError, match="row 1: unknown key 'querry'\n  hint: did you mean 'query'"
    ):
        read_records(path)
    grades = pyarrow.map_(pyarrow.string(), pyarrow.int64())
    twice = pyarrow.array([[("cat", 1), ("cat", 2)]], type=grades)
    parquet.write_table(
        pyarrow.table({"query_id": ["q1"], "query": ["x"], "positives": twice}), path
    )
    with pytest.raises(DataError, match='row 1: field "positives" has a key twice'):
        read_records(path)


def test_files_that_hold_nothing_or_something_else(tmp_path: Path):
    with pytest.raises(DataError, match=r"train\.csv has an unknown format\n  hint: .*\.jsonl"):
        read_records(tmp_path / "train.csv")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        read_records(tmp_path / "train.jsonl")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_records(tmp_path / "train.parquet")
    (tmp_path / "train.parquet").write_bytes(b"PAR1 and nothing else")
    with pytest.raises(DataError, match="cannot be read as Parquet"):
        read_records(tmp_path / "train.parquet")
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(DataError, match="has no record"):
        read_records(tmp_path / "train.jsonl")


def test_what_could_not_be_read_again_is_not_written(tmp_path: Path):
    record = TrainingRecord(query_id="q", query="x", positives={"d": 1})
    with pytest.raises(DataError, match="the query 'q' occurs twice"):
        write_records(tmp_path / "train.jsonl", [record, record])
    with pytest.raises(DataError, match="unknown format"):
        write_records(tmp_path / "train.txt", [record])
    assert not list(tmp_path.iterdir())


def test_records_as_others_write_them(tmp_path: Path):
    """A byte order mark, ids and grades as numbers."""
    path = tmp_path / "records.jsonl"
    line = '{"query_id": 7, "query": "who purrs?", "positives": {"1": 2.0}, "negatives": [3]}\n'
    path.write_bytes(b"\xef\xbb\xbf" + line.encode())
    (record,) = read_records(path)
    assert (record.query_id, record.positives, record.negatives) == ("7", {"1": 2}, ("3",))
    assert type(record.positives["1"]) is int
