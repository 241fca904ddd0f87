"""Files: targets are checked before work is done for them, and replaced whole."""

import shutil
from pathlib import Path

import pytest

from t1_jax.errors import T1Error
from t1_jax.files import atomic_folder, check_new_file, check_new_folder, write_atomically


def test_free_targets_are_accepted(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "new", tmp_path / "a" / "b" / "new"):
        check_new_folder(target, overwrite=False)
        check_new_file(target, overwrite=False)
    check_new_file(tmp_path / "file", overwrite=True)
    check_new_folder(tmp_path, overwrite=True)
    (tmp_path / "empty").mkdir()
    check_new_folder(tmp_path / "empty", overwrite=False)


@pytest.mark.parametrize(
    ("check", "name", "overwrite", "fault"),
    [
        (check_new_folder, ".", False, "already exists and is not empty"),
        (check_new_folder, "file", True, "is a file, not a folder"),
        (check_new_file, ".", True, "is a folder, not a file"),
        (check_new_file, "file", False, "already exists"),
        (check_new_file, "file/deeper", True, "file is not a folder"),
        (check_new_folder, "file/deeper/still", True, "file is not a folder"),
        (check_new_folder, "broken/deeper", True, "broken is not a folder"),
        (check_new_file, "x" * 300, True, "cannot be written|File name too long"),
        (check_new_file, "a\0b", True, "null"),
    ],
)
def test_targets_that_cannot_be_written_are_refused(
    tmp_path: Path, check, name: str, overwrite: bool, fault: str
) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "broken").symlink_to("nowhere")
    with pytest.raises(T1Error, match=fault):
        check(tmp_path / name, overwrite=overwrite)


def test_a_folder_takes_the_place_of_a_broken_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with atomic_folder(tmp_path / "link", overwrite=True) as scratch:
        (scratch / "x").write_text("x")
    assert (tmp_path / "link" / "x").read_text() == "x"


def test_a_full_disk_is_an_error_and_leaves_what_was_there(tmp_path: Path, monkeypatch) -> None:
    (tmp_path / "file").write_text("old")

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(T1Error, match="No space left on device"):
        write_atomically(tmp_path / "file", "new")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]
    assert (tmp_path / "file").read_text() == "old"


def test_the_folder_of_a_killed_process_is_removed_and_that_of_a_running_one_stays(tmp_path: Path):
    target = tmp_path / "index"
    (tmp_path / ".index.new.killed").mkdir()
    (tmp_path / ".index.parts").mkdir()
    with atomic_folder(target) as running:
        with atomic_folder(target) as second:
            (second / "file").write_text("second")
        assert running.is_dir()
        (running / "file").write_text("first")
        (running / "more").write_text("")
        shutil.rmtree(target)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".index.parts", "index"]
    assert (target / "file").read_text() == "first"


def test_a_yielded_error_leaves_the_target(tmp_path: Path):
    (tmp_path / "index").mkdir()
    (tmp_path / "index" / "file").write_text("old")
    with pytest.raises(KeyError), atomic_folder(tmp_path / "index", overwrite=True):
        raise KeyError
    assert (tmp_path / "index" / "file").read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
