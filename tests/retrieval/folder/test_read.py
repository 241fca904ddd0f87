import os
from dataclasses import replace
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import SourceLocation
from t1_jax.retrieval.folder import read as read_module
from t1_jax.retrieval.folder import read_folder


def write(root, **texts):
    for name, text in texts.items():
        path = root / name.replace("__", "/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_suffix(".md").write_text(text)


def age(root):
    """Makes all files older than the time in which a change could go unnoticed."""
    for path in root.rglob("*"):
        if path.is_file():
            os.utime(path, (1e9, 1e9))


def ids(contents):
    return [document.id for document in contents.documents]


def test_documents_are_passages_with_file_and_line(tmp_path):
    write(tmp_path, tea="# Tea\n\nGreen.\n\n## More\n\nBlack.", sub__sky="Blue.")
    contents = read_folder(tmp_path)
    assert ids(contents) == ["tea.md:3", "tea.md:7", "sub/sky.md:1"]
    first = contents.documents[0]
    assert (first.title, first.text) == ("Tea", "Green.")
    assert first.location == SourceLocation(path=Path("tea.md"), line=3)
    (only,) = read_folder(tmp_path / "sub" / "sky.md").documents
    assert only.id == "sky.md:1"


def test_passages_of_one_line_have_ids_of_their_own(tmp_path):
    (tmp_path / "a.txt").write_text("A sentence is here. " * 120)
    assert ids(read_folder(tmp_path)) == ["a.txt:1", "a.txt:1#2", "a.txt:1#3"]


def test_odd_files_are_skipped_with_a_reason(tmp_path, monkeypatch):
    write(tmp_path, tea="Green.")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\0\0")
    with (tmp_path / "dump.txt").open("wb") as file:
        file.truncate(100 << 20)  # takes no space on the disk
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    (tmp_path / "gone.txt").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe")
    for name in (".hidden", "node_modules/x.md", ".git/y.md", "index/manifest.json"):
        write(tmp_path, **{name.replace("/", "__").removesuffix(".md"): "text"})
    (tmp_path / "index" / "manifest.json").write_text("{}")
    (tmp_path / "index" / "vectors.npy").write_bytes(b"")
    (tmp_path / "no\nname.txt").write_text("text")
    (tmp_path / "secret.txt").write_text("text")
    read_bytes = read_module.Path.read_bytes

    def refuse(path):
        if path.name == "secret.txt":  # root, who may run this test, can read every file
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(read_module.Path, "read_bytes", refuse)
    contents = read_folder(tmp_path)
    assert ids(contents) == ["tea.md:1"]
    assert contents.skipped == {
        "a.png": "binary",
        "dump.txt": "larger than 32 MiB",
        "self.txt": "Too many levels of symbolic links",
        "gone.txt": "No such file or directory",
        "no\nname.txt": "the id has a control character",
        "pipe": "not a regular file",
        "secret.txt": "Permission denied",
    }


def test_ten_thousand_small_files(tmp_path):
    for number in range(10_000):
        (tmp_path / f"{number}.txt").write_text(f"Note {number}.")
    age(tmp_path)
    contents = read_folder(tmp_path)
    assert len(contents.documents) == 10_000
    again = read_folder(tmp_path, contents.files, contents.documents)
    assert again == contents


def test_an_update_equals_a_new_reading_and_reads_only_what_changed(tmp_path, monkeypatch):
    write(tmp_path, a="# A\n\none\n\n# B\n\ntwo", b="three", c="four", d="five")
    age(tmp_path)
    before = read_folder(tmp_path)
    write(tmp_path, a="# A\n\none, changed", e="new")
    (tmp_path / "b.md").unlink()
    (tmp_path / "c.md").rename(tmp_path / "f.md")
    opened = []
    read_passages = read_module.read_passages

    def spy(path, name):
        opened.append(name)
        return read_passages(path, name)

    monkeypatch.setattr(read_module, "read_passages", spy)
    update = read_folder(tmp_path, before.files, before.documents)
    assert opened == ["a.md", "e.md", "f.md"]
    assert update == read_folder(tmp_path)
    assert ids(update) == ["a.md:3", "d.md:1", "e.md:1", "f.md:1"]


def test_a_file_that_was_just_written_is_read_again(tmp_path):
    """Its next change could have the same size and the same time."""
    write(tmp_path, a="one")
    before = read_folder(tmp_path)
    times = (tmp_path / "a.md").stat()
    write(tmp_path, a="two")
    os.utime(tmp_path / "a.md", ns=(times.st_atime_ns, times.st_mtime_ns))
    (document,) = read_folder(tmp_path, before.files, before.documents).documents
    assert document.text == "two"
    assert before.files["a.md"] == replace(before.files["a.md"], modified_ns=0)


def test_nothing_to_search(tmp_path):
    with pytest.raises(DataError, match="does not exist"):
        read_folder(tmp_path / "nowhere")
    (tmp_path / "a.bin").write_bytes(b"\0")
    with pytest.raises(DataError, match=r"no text to search \(skipped: binary\)"):
        read_folder(tmp_path)
