import pytest

from t1_jax.cli.inputs import given_queries
from t1_jax.errors import DataError
from t1_jax.retrieval import load_documents


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"_id": "a", "text": "x"', "malformed JSON"),
        ('["a"]', "expected a JSON object, found list"),
        ('{"text": "x"}', 'field "_id" is missing; found text'),
        ('{"_id": "a"}', 'field "text" is missing; found _id'),
        ('{"_id": 3.5, "text": "x"}', 'field "_id" must be a string, found float'),
        ('{"_id": "a", "text": " "}', "documents without title and text"),
        ('{"_id": "a", "text": "\\ud800"}', "surrogate"),
        ("", "the line is empty"),
    ],
)
def test_a_bad_line_is_named(tmp_path, line, named):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"_id": "z", "text": "good"}\n' + line + "\n")
    with pytest.raises(DataError, match=r"texts.jsonl:2: ") as caught:
        load_documents(path)
    assert named in caught.value.message


def test_documents_with_either_kind_of_id(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"_id": "a", "title": "T", "text": "x"}\n{"id": "b", "text": "y"}\n')
    assert [(item.id, item.full_text) for item in load_documents(path).documents] == [
        ("a", "T\nx"),
        ("b", "y"),
    ]


def test_unreadable_files(tmp_path):
    with pytest.raises(DataError, match="No such file"):
        load_documents(tmp_path / "nothing.jsonl")
    (tmp_path / "latin.txt").write_bytes(b"good\ncaf\xe9\n")
    with pytest.raises(DataError, match=r"latin.txt:2: byte 3 of the line is not UTF-8"):
        given_queries([], tmp_path / "latin.txt")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty.jsonl has nothing with a text"):
        load_documents(tmp_path / "empty.jsonl")
