import gzip
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval.jsonl import SourceLocation, parse_relevance_label, read_lines, read_records

HERE = SourceLocation(path=Path("qrels.tsv"), line=7)


def written(folder: Path, content: bytes) -> Path:
    path = folder / "file.jsonl"
    path.write_bytes(content)
    return path


def test_lines_are_counted_from_one_and_lose_their_ends(tmp_path: Path):
    path = written(tmp_path, b"a\r\nb\n\nc")
    assert [(place.line, line) for place, line in read_lines(path)] == [
        (1, "a"),
        (2, "b"),
        (3, ""),
        (4, "c"),
    ]


def test_a_byte_that_is_not_utf8_is_found(tmp_path: Path):
    with pytest.raises(DataError, match=r"file\.jsonl:2: byte 1 of the line is not UTF-8"):
        list(read_lines(written(tmp_path, b"ok\na\xff")))


def test_a_damaged_archive_is_named(tmp_path: Path):
    packed = gzip.compress(b"a line\n" * 100)
    for content in (b"not packed", packed[:-9], packed[:20] + b"????" + packed[24:]):
        path = tmp_path / "lines.gz"
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"lines\.gz cannot be decompressed"):
            list(read_lines(path))


def test_a_file_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(DataError, match=r"nothing\.txt cannot be read: No such file"):
        list(read_lines(tmp_path / "nothing.txt"))


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        (b"", "the line is empty"),
        (b"{", "malformed JSON"),
        (b"[1]", "expected a JSON object, found list"),
        (b"[" * 100_000, "malformed JSON"),
        (b"1" * 10_000, "malformed JSON"),
    ],
)
def test_lines_that_are_no_object_are_faults(tmp_path: Path, line: bytes, fault: str):
    with pytest.raises(DataError, match=rf"file\.jsonl:2: {fault}"):
        list(read_records(written(tmp_path, b'{"a": 1}\n' + line + b"\n")))


def test_fields_are_checked(tmp_path: Path):
    content = (
        b'{"n": 1.5, "id": "a\\tb", "blank": " ", "ids": [1.5], "half": "\\ud800", "none": null}'
    )
    (record,) = read_records(written(tmp_path, content))
    with pytest.raises(DataError, match=r':1: field "gone" is missing; found blank, half, id'):
        record.text("gone")
    with pytest.raises(DataError, match='field "n" must be a string, found float 1.5'):
        record.id("n")
    with pytest.raises(DataError, match='field "id": the id has a control character'):
        record.id("id")
    with pytest.raises(DataError, match='field "blank": the text is empty'):
        record.text("blank")
    with pytest.raises(DataError, match='field "half": character 0 is half of a surrogate'):
        record.text("half")
    with pytest.raises(DataError, match='field "ids" must be a list of strings'):
        record.ids("ids")
    assert record.optional_text("none") == record.optional_text("gone") == ""


@given(st.integers(-999_999, 999_999))
def test_a_grade_is_an_integer(grade: int):
    assert (
        parse_relevance_label(HERE, str(grade))
        == parse_relevance_label(HERE, f"{grade:+d}.0")
        == grade
    )


@pytest.mark.parametrize(
    "text", ["", "1.5", ".0", " 1", "1_0", "one", "٣", "--1", "1e3", "1234567"]
)
def test_other_relevance_labels_are_errors(text: str):
    with pytest.raises(DataError, match=r"qrels\.tsv:7: the relevance label must be an integer"):
        parse_relevance_label(HERE, text)
