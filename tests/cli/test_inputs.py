import dataclasses
from pathlib import Path

import pytest

from t1_jax.cli.inputs import read_config, read_queries
from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import load_documents


@pytest.mark.parametrize(
    ("line", "named"),
    [
        ('{"_id": "a", "text": "x"', "malformed JSON"),
        ('["a"]', "expected a JSON object, found list"),
        ('{"text": "x"}', 'field "_id" is missing; found text'),
        ('{"_id": "a"}', 'field "text" is missing; found _id'),
        ('{"_id": 3.5, "text": "x"}', 'field "_id" must be a string, found float'),
        ('{"_id": "a", "text": " "}', "1 document without title and text"),
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
        read_queries([], tmp_path / "latin.txt")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match=r"empty.jsonl has no entry with text"):
        load_documents(tmp_path / "empty.jsonl")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Numbers:
    n: int = 1
    sub: dict[str, int] = dataclasses.field(default_factory=dict)


def test_a_config_comes_from_a_file_and_fields(tmp_path):
    (tmp_path / "a.yaml").write_text("n: 2\n")
    file = str(tmp_path / "a.yaml")
    assert read_config(Numbers, None).n == 1
    assert read_config(Numbers, [], default=Path(file)).n == 2
    assert read_config(Numbers, [file]).n == 2
    assert read_config(Numbers, ["n=3", file, "sub.x=4"]) == Numbers(n=3, sub={"x": 4})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.yaml", "b.yml"], "more than one config was given: a.yaml, b.yml"),
        (["train.json"], "'train.json' is neither a .yaml file nor KEY=VALUE"),
        (["n", "=", "3"], "'n' is neither"),
        (["n=x"], "n expects int"),
    ],
)
def test_other_arguments_are_errors(arguments, message):
    with pytest.raises(ConfigError, match=message):
        read_config(Numbers, arguments)
