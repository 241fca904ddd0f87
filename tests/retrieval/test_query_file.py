"""Files of queries as streams: ids, lines, and every fault with its place."""

import gzip
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import Query, check_query_file


def test_lines_are_queries_by_number(tmp_path: Path) -> None:
    (tmp_path / "q.txt").write_text("first\n  second \n")
    file = check_query_file(tmp_path / "q.txt")
    assert (file.count, file.has_ids) == (2, False)
    assert list(file.queries()) == [Query(id="1", text="first"), Query(id="2", text="  second ")]


def test_jsonl_has_ids_and_may_be_compressed(tmp_path: Path) -> None:
    with gzip.open(tmp_path / "q.jsonl.gz", "wt") as stream:
        stream.write('{"_id": "a", "text": "first"}\n{"_id": 7, "text": "second"}\n')
    file = check_query_file(tmp_path / "q.jsonl.gz")
    assert (file.count, file.has_ids) == (2, True)
    assert [query.id for query in file.queries()] == ["a", "7"]


def test_standard_input_is_not_read_before_its_time() -> None:
    assert check_query_file(Path("-")).count is None


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("q.txt", b"", "has no query"),
        ("q.txt", b"fine\n \n", "q.txt:2 is empty"),
        ("q.txt", b"fine\n\xff\n", "q.txt:2: byte 0 of the line is not UTF-8"),
        ("q.jsonl", b'{"_id": "a", "text": "x"}\n{', "q.jsonl:2: malformed JSON"),
        ("q.jsonl", b'{"_id": "a"}\n', '"text" is missing'),
        ("q.jsonl", b'{"_id": "a", "text": ""}\n', "q.jsonl:1: the query is empty"),
        ("q.jsonl", b'{"_id": "a", "text": "x"}\n' * 2, "query 2 has the id 'a' of an earlier"),
        ("q.jsonl.gz", b"no gzip", "cannot be decompressed"),
    ],
)
def test_a_fault_is_named_with_its_place(tmp_path, name, content, said) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=said):
        check_query_file(tmp_path / name)
