"""What `.gitignore` files leave out of a folder."""

from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval.folder import read_folder


def tree(root: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = root / name.replace("__", "/").replace("_md", ".md").replace("_ignore", ".gitignore")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def files(root: Path) -> list[str]:
    return sorted(read_folder(root).files)


def test_ignored_files_and_folders_are_skipped_with_the_reason(tmp_path: Path) -> None:
    tree(
        tmp_path,
        _ignore="# build products\nbuild/\n*.log.md\n/top_md\n!kept.log.md\n".replace("_md", ".md"),
        a_md="a",
        top_md="top",
        sub__top_md="below",
        build__b_md="b",
        sub__build__c_md="c",
    )
    (tmp_path / "x.log.md").write_text("x")
    (tmp_path / "kept.log.md").write_text("kept")
    contents = read_folder(tmp_path)
    assert sorted(contents.files) == ["a.md", "kept.log.md", "sub/top.md"]
    reason = "ignored by .gitignore"
    assert contents.skipped == dict.fromkeys(["build", "sub/build", "top.md", "x.log.md"], reason)


def test_a_file_of_a_subfolder_holds_there_and_overrules(tmp_path: Path) -> None:
    tree(
        tmp_path,
        _ignore="*.txt\nnotes/",
        sub___ignore="!*.txt\n/here_md".replace("_md", ".md"),
        sub__here_md="x",
        sub__deep__here_md="y",
        notes__n_md="n",
    )
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "sub" / "b.txt").write_text("b")
    assert files(tmp_path) == ["sub/b.txt", "sub/deep/here.md"]


def test_a_broken_file_has_no_effect(tmp_path: Path) -> None:
    tree(tmp_path, a_md="a")
    (tmp_path / ".gitignore").write_bytes(b"\xff\xfe*.md")
    assert files(tmp_path) == ["a.md"]


def test_if_all_is_ignored_the_error_says_so(tmp_path: Path) -> None:
    tree(tmp_path, _ignore="*", a_md="a")
    with pytest.raises(DataError, match="skipped: ignored by .gitignore"):
        read_folder(tmp_path)
    assert files(tmp_path / "a.md") == ["a.md"]  # asked for by name
