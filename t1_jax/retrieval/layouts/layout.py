"""What the readers of all formats have in common: which files a collection consists of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.layouts.records import Entry, Exclusion, Label, RecordFile


@dataclass(frozen=True, kw_only=True)
class Split:
    """The files of one split.

    Attributes:
        queries: its queries; the file may have others too.
        qrels: its relevance labels; one record may hold several.
    """

    queries: RecordFile[Entry]
    qrels: RecordFile[Sequence[Label]]


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The files of a collection.

    Attributes:
        name: name of the format.
        folder: folder with the files.
        corpus: files of documents; empty if there are none, as with TREC topics and qrels alone.
        splits: name of a split -> its files, sorted by name.
        excluded: file of documents that queries exclude; may not exist.
        writes_underscores: whether queries and qrels may have "_" where ids of documents have
            spaces, as in the files of pyserini and Anserini.
    """

    name: str
    folder: Path
    corpus: tuple[RecordFile[Entry], ...]
    splits: Mapping[str, Split]
    excluded: RecordFile[Exclusion]
    writes_underscores: bool = False

    def split(self, name: str) -> Split:
        """The files of a split.

        Raises:
            DataError: there is no such split.
        """
        if name not in self.splits:
            known = ", ".join(self.splits)
            raise DataError(
                f"{self.folder} has no split {name!r}",
                hint=f"choose one of {known}" if known else "add qrels, see docs/collections.md",
            )
        return self.splits[name]


def existing_path(folder: Path, name: str) -> Path:
    """Path of the file, gzipped or not; the plain path if neither exists.

    Raises:
        DataError: both exist.
    """
    plain, gzipped = folder / name, folder / f"{name}.gz"
    if plain.exists() and gzipped.exists():
        raise DataError(f"{folder} has both {plain.name} and {gzipped.name}", hint="delete one")
    return gzipped if gzipped.exists() else plain


def plain_name(path: Path) -> str:
    """Name of a file without `.gz`."""
    return path.name.removesuffix(".gz")


def unique_paths(paths: Mapping[str, Sequence[Path]]) -> dict[str, Path]:
    """Key -> its only path, sorted by key.

    Raises:
        DataError: a key has two paths.
    """
    for found in paths.values():
        if len(found) > 1:
            first, second = sorted(path.name for path in found)[:2]
            raise DataError(
                f"{found[0].parent} has both {first} and {second}", hint="delete one of them"
            )
    return {key: paths[key][0] for key in sorted(paths)}
