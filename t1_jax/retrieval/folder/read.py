"""Reads a folder as documents, and only what has changed since it was read before."""

import os
import stat
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import Document, SourceLocation, id_error, text_error
from t1_jax.retrieval.folder.formats import MAX_BYTES, read_passages
from t1_jax.retrieval.folder.gitignore import IGNORED, GitIgnore
from t1_jax.retrieval.folder.passages import Passage

_IGNORED_FOLDERS = frozenset({"node_modules", "__pycache__", "venv", "site-packages"})
_RACY_NS = 2_000_000_000


@dataclass(frozen=True)
class FileState:
    """What shows that a file has not changed.

    Attributes:
        size: bytes.
        modified_ns: time of the last modification, in nanoseconds. 0 if the file was read within
            two seconds of it: such a file could change again without a new time, and is read again.
    """

    size: int
    modified_ns: int


@dataclass(frozen=True, kw_only=True)
class FolderContents:
    """The documents of a folder.

    Attributes:
        root: the folder, or the only file.
        documents: passages, in the order of paths and lines. The id is `path:line`; later passages
            of one line are `path:line#2` and so on.
        files: path relative to the folder -> state, of every file that was read.
        skipped: path -> reason, of every file that was not.
    """

    root: Path
    documents: tuple[Document, ...]
    files: Mapping[str, FileState]
    skipped: Mapping[str, str]


def read_folder(
    root: Path,
    known_files: Mapping[str, FileState] | None = None,
    known_documents: Iterable[Document] = (),
) -> FolderContents:
    """Reads a folder, or a single file.

    Hidden files and folders, folders of installed packages, indexes and links to folders are left
    out. Files that are binary, not readable, larger than `MAX_BYTES`, or ignored by a `.gitignore`
    in the folder are skipped.

    Args:
        root: the folder or file.
        known_files: the states of files whose documents are known.
        known_documents: their documents; a file with an unchanged state is not read again.

    Raises:
        DataError: `root` does not exist, or there is no text to search.
    """
    root = Path(root)
    if not root.exists():
        raise DataError(f"{root} does not exist", hint="check the path")
    by_file: dict[str, list[Document]] = {}
    for document in known_documents:
        if document.location is not None:
            by_file.setdefault(document.location.path.as_posix(), []).append(document)
    documents: list[Document] = []
    files: dict[str, FileState] = {}
    skipped: dict[str, str] = {}
    now = time.time_ns()
    for name, path in _walk(root, skipped):
        try:
            status = path.stat()
            if not stat.S_ISREG(status.st_mode):
                raise DataError("not a regular file")
            if status.st_size > MAX_BYTES:
                raise DataError(f"larger than {MAX_BYTES >> 20} MiB")
            state = FileState(status.st_size, status.st_mtime_ns)
            if (known_files or {}).get(name) == state:
                documents += by_file.get(name, [])
            else:
                documents += _documents(name, read_passages(path, name))
                if now - status.st_mtime_ns < _RACY_NS:
                    state = FileState(status.st_size, 0)
            files[name] = state
        except DataError as error:
            skipped[name] = error.message
        except OSError as error:
            skipped[name] = error.strerror or str(error)
    if not documents:
        reasons = ", ".join(dict.fromkeys(skipped.values()))
        raise DataError(
            f"{root} holds no text to search" + (f" (skipped: {reasons})" if reasons else ""),
            hint="give a folder with text, Markdown, source code, JSONL, CSV or Parquet files",
        )
    return FolderContents(root=root, documents=tuple(documents), files=files, skipped=skipped)


def _walk(root: Path, skipped: dict[str, str]) -> Iterator[tuple[str, Path]]:
    """Name and path of each candidate, in the order of names; unreadable folders are `skipped`."""
    if root.is_file():
        yield root.name, root
        return

    def skip(error: OSError) -> None:
        skipped[os.path.relpath(error.filename, root)] = error.strerror or str(error)

    gitignore = GitIgnore(root)
    for folder, folders, names in os.walk(root, onerror=skip):
        if {"manifest.json", "vectors.npy"} <= set(names):
            folders.clear()  # an index
            continue
        if ".gitignore" in names:
            gitignore.read(Path(folder))
        folders[:] = sorted(
            name for name in folders if name[0] != "." and name not in _IGNORED_FOLDERS
        )
        for name in list(folders):
            relative = Path(folder, name).relative_to(root).as_posix()
            if gitignore.matches(relative + "/"):
                folders.remove(name)
                skipped[relative] = IGNORED
        for name in sorted(names):
            path = Path(folder, name)
            relative = path.relative_to(root).as_posix()
            if name[0] == ".":
                continue
            if (message := id_error(relative)) is not None:
                skipped[relative] = message
            elif gitignore.matches(relative):
                skipped[relative] = IGNORED
            else:
                yield relative, path


def _documents(name: str, passages: Iterable[Passage]) -> Iterator[Document]:
    counts: dict[int, int] = {}
    for passage in passages:
        if text_error(passage.text) or (passage.title and text_error(passage.title)):
            continue
        number = counts[passage.line] = counts.get(passage.line, 0) + 1
        yield Document(
            id=f"{name}:{passage.line}" + (f"#{number}" if number > 1 else ""),
            title=passage.title,
            text=passage.text,
            location=SourceLocation(path=Path(name), line=passage.line),
        )
