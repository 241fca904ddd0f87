"""JSON objects: read whole, or refused with the file and the line."""

from pathlib import Path

import pytest

from t1_jax.errors import WeightsError
from t1_jax.hub.json_files import read_json, read_optional_json, to_json


def test_what_is_written_is_read(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None], "a": "é<emb_token>"}
    (tmp_path / "x.json").write_text(to_json(content), encoding="utf-8")
    assert read_json(tmp_path / "x.json") == content
    assert "é" in (tmp_path / "x.json").read_text(encoding="utf-8")


def test_a_missing_file_is_empty_only_where_that_is_asked(tmp_path: Path) -> None:
    assert read_optional_json(tmp_path / "x.json") == {}
    with pytest.raises(WeightsError, match=r"x\.json is missing"):
        read_json(tmp_path / "x.json")


def test_a_broken_link_is_not_taken_for_a_missing_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").symlink_to(tmp_path / "gone")
    for read in (read_json, read_optional_json):
        with pytest.raises(WeightsError, match=r"x\.json is a broken link: .*gone is missing"):
            read(tmp_path / "x.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1,\n"b" 2}', "line 2: not JSON"),
        (b"[1, 2]", "contains list, expected an object"),
        (b"\xff\xfe", "not UTF-8"),
        (b"", "line 1: not JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a": ' + b"9" * 5000 + b"}", "cannot be read: Exceeds the limit"),
    ],
)
def test_what_is_no_object_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(WeightsError, match=message):
        read_json(tmp_path / "x.json")


def test_a_byte_order_mark_is_skipped(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"a": 1}')
    assert read_json(path) == {"a": 1}
