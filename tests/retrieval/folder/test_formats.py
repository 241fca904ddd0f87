import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval.folder.formats import read_passages


def read(path, content):
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        path.write_text(content)
    return [(p.line, p.title, p.text) for p in read_passages(path, f"sub/{path.name}")]


def test_text_and_source_code(tmp_path):
    assert read(tmp_path / "a.txt", "\ufeffone\r\n\r\ntwo") == [(1, "a", "one\n\ntwo")]
    assert read(tmp_path / "README", "one") == [(1, "README", "one")]
    assert read(tmp_path / "a.py", "def f(): ...") == [(1, "sub/a.py", "def f(): ...")]
    assert read(tmp_path / "b.txt", "größe".encode("utf-16")) == [(1, "b", "größe")]
    assert read(tmp_path / "c.md", "# H\n\ntext") == [(3, "H", "text")]


def test_records_of_jsonl(tmp_path):
    rows = [
        {"title": "T", "text": "body", "other": "x"},
        {"Name": "N", "Content": "inside"},
        {"kind": "tea", "grams": 3, "origin": None, "tags": ["a"]},
    ]
    text = "\n".join(json.dumps(row) for row in rows[:2]) + "\n\n" + json.dumps(rows[2])
    assert read(tmp_path / "a.jsonl", text) == [
        (1, "T", "body"),
        (2, "N", "inside"),
        (4, "", 'kind: tea\ngrams: 3\ntags: ["a"]'),
    ]


@pytest.mark.parametrize(("name", "sign"), [("a.csv", ","), ("a.csv", ";"), ("a.tsv", "\t")])
def test_rows_of_csv_have_the_line_on_which_they_begin(tmp_path, name, sign):
    text = f'title{sign}text\nA{sign}"two\nlines"\nB{sign}one\n'
    assert read(tmp_path / name, text) == [(2, "A", "two\nlines"), (4, "B", "one")]


def test_rows_of_parquet(tmp_path):
    table = pa.table({"title": ["A", "B"], "text": ["one", "two"], "n": [1, 2]})
    pq.write_table(table, tmp_path / "a.parquet")
    data = (tmp_path / "a.parquet").read_bytes()
    assert read(tmp_path / "a.parquet", data) == [(1, "A", "one"), (2, "B", "two")]
    with pytest.raises(DataError, match="damaged Parquet"):
        read(tmp_path / "b.parquet", data[:40])


@pytest.mark.parametrize(
    ("name", "text"),
    [("a.jsonl", '{"a": 1}\nno json'), ("a.jsonl", "[1]"), ("a.csv", "a,b\nc,d,e"),
     ("a.csv", "just one word"), ("a.jsonl", '{"a":' * 50_000)],
)  # fmt: skip
def test_a_file_without_the_form_of_its_name_is_text(tmp_path, name, text):
    assert read(tmp_path / name, text)[0][2] == text[:1000]


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n\0\0", b"caf\xe9", b"\xff\xfe\x00"])
def test_what_is_not_text_is_binary(tmp_path, data):
    with pytest.raises(DataError, match="binary"):
        read(tmp_path / "a.txt", data)
