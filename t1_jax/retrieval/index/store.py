"""An index on disk: manifest, ids, vectors, documents, and what a back end adds.

Paths in a manifest are relative, so a folder may be moved; every file is listed with its SHA-256,
so damage is noticed; and the fingerprint says whose vectors these are. `documents.jsonl` is
optional: with it, results have titles and the same documents can be searched by BM25.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from t1_jax.errors import IndexContractError
from t1_jax.files import atomic_folder, sha256_of
from t1_jax.retrieval.collection import Document
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.jsonl import read_records

FORMAT_VERSION = 2
"""Of the folder's layout. It rises whenever an older reader would misread what is written."""

OLDEST_READABLE = 1

DOCUMENTS_FILE = "documents.jsonl"


class CorruptIndexError(IndexContractError):
    """A file of the index is missing, damaged, or not one of its own."""


class OldIndexError(IndexContractError):
    """The index was written in a layout that is no longer read."""


class NewIndexError(IndexContractError):
    """The index was written by a later version of this package."""


class ForeignIndexError(IndexContractError):
    """The index belongs to another encoder, prompt or collection."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Whose vectors an index holds; each part is a hex digest.

    Attributes:
        encoder: of weights, tokenizer and numeric settings.
        prompt: of the document prompt.
        data: of the documents, see `Collection.data_hash`.

    Raises:
        IndexContractError: a part is not lower-case hexadecimal.
    """

    encoder: str
    prompt: str
    data: str

    def __post_init__(self) -> None:
        for part, value in asdict(self).items():
            if not re.fullmatch("[0-9a-f]+", value):
                raise IndexContractError(f"fingerprint: {part} must be a hex digest, not {value!r}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `manifest.json` says.

    Attributes:
        version: of the layout, see `FORMAT_VERSION`.
        kind: the back end that wrote the index.
        count: rows.
        width: dimensions of a vector.
        fingerprint: whose vectors these are.
        recall_at_10: share of the exact ten best that the back end found when it was built; 1 for
            exact ones.
        settings: of the back end.
        encoding: how the vectors were made and how queries are to be encoded (model, dtype,
            preset, instruction, limits), as JSON values; empty where that was not recorded.
        files: SHA-256 of every other file, under its path relative to the folder.
    """

    version: int = FORMAT_VERSION
    kind: str
    count: int
    width: int
    fingerprint: Fingerprint
    recall_at_10: float = 1.0
    settings: Mapping[str, object] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str]


def write_index(
    folder: Path,
    kind: str,
    table: EmbeddingTable,
    fingerprint: Fingerprint,
    *,
    recall_at_10: float = 1.0,
    settings: Mapping[str, object] | None = None,
    encoding: Mapping[str, Any] | None = None,
    documents: Iterable[Document] = (),
    write_more: Callable[[Path], None] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes an index, all or nothing.

    Args:
        folder: becomes the index.
        kind: of the back end.
        table: ids and vectors.
        fingerprint: whose vectors these are.
        recall_at_10: as measured at build.
        settings: JSON values that the back end wants back.
        encoding: see `Manifest.encoding`.
        documents: kept in the index, so that results have titles and texts; may be empty.
        write_more: adds the back end's own files to the folder it is given.
        overwrite: replace what stands at `folder`.

    Raises:
        T1Error: the folder exists (without `overwrite`), or the disk refuses.
    """
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        np.save(scratch / "vectors.npy", table.vectors, allow_pickle=False)
        (scratch / "ids.json").write_text(json.dumps(table.ids), encoding="utf-8")
        _write_documents(scratch / DOCUMENTS_FILE, documents)
        if write_more:
            write_more(scratch)
        manifest = Manifest(
            kind=kind,
            count=len(table.ids),
            width=table.width,
            fingerprint=fingerprint,
            recall_at_10=recall_at_10,
            settings=settings or {},
            encoding=encoding or {},
            files={name: sha256_of(scratch / name) for name in _files_in(scratch)},
        )
        text = json.dumps(asdict(manifest), indent=2)
        (scratch / "manifest.json").write_text(text + "\n", encoding="utf-8")


def read_index(folder: Path, fingerprint: Fingerprint) -> tuple[Manifest, EmbeddingTable]:
    """Reads and checks an index; its vectors stay on disk, mapped into memory.

    Raises:
        CorruptIndexError, OldIndexError, NewIndexError, ForeignIndexError: see each.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_fingerprint(folder, manifest, fingerprint)
    _check_files(folder, manifest)
    try:
        ids = json.loads((folder / "ids.json").read_bytes())
        vectors = np.load(folder / "vectors.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _corrupt(folder, str(error)) from error
    if (
        vectors.shape != (manifest.count, manifest.width)
        or vectors.dtype != np.float32
        or len(ids) != manifest.count
    ):
        raise _corrupt(folder, f"vectors {vectors.dtype}{vectors.shape} and {len(ids)} ids")
    return manifest, EmbeddingTable(ids=tuple(ids), vectors=vectors)


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json` alone.

    Raises:
        CorruptIndexError: there is none, or it is malformed.
        OldIndexError: the layout is older than this package reads.
        NewIndexError: the layout is newer.
    """
    if not (Path(folder) / "manifest.json").is_file():
        raise CorruptIndexError(
            f"{folder} is not an index: it has no manifest.json",
            hint="build one: t1 index build FOLDER -c COLLECTION",
        )
    try:
        fields = json.loads((Path(folder) / "manifest.json").read_bytes())
        version = int(fields["version"])
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise _corrupt(folder, f"manifest.json cannot be read ({error})") from error
    if version < OLDEST_READABLE:
        raise OldIndexError(
            f"{folder} has layout {version}; this version of t1_jax reads from {OLDEST_READABLE}",
            hint="index the collection again",
        )
    if version > FORMAT_VERSION:
        raise NewIndexError(
            f"{folder} has layout {version}; this version of t1_jax reads to {FORMAT_VERSION}",
            hint="install a newer t1_jax, or index the collection again",
        )
    try:
        return Manifest(**(fields | {"fingerprint": Fingerprint(**fields["fingerprint"])}))
    except (TypeError, KeyError) as error:
        raise _corrupt(folder, f"manifest.json is malformed ({error})") from error


def index_documents(folder: Path) -> tuple[Document, ...]:
    """The documents that an index keeps; none where it was built from vectors alone.

    Raises:
        CorruptIndexError: the file is not the one that the manifest lists.
    """
    folder = Path(folder)
    digest = read_manifest(folder).files.get(DOCUMENTS_FILE)
    if digest is None:
        return ()
    path = folder / DOCUMENTS_FILE
    if not path.is_file() or sha256_of(path) != digest:
        raise _corrupt(folder, f"the SHA-256 of {DOCUMENTS_FILE} is not {digest}")
    return tuple(
        Document(
            id=record.id("_id"), title=str(record.fields["title"]), text=str(record.fields["text"])
        )
        for record in read_records(path)
    )


def _write_documents(path: Path, documents: Iterable[Document]) -> None:
    lines = (json.dumps({"_id": d.id, "title": d.title, "text": d.text}) for d in documents)
    first = next(lines, None)
    if first is None:
        return
    with path.open("w", encoding="utf-8") as file:
        file.write(first + "\n")
        file.writelines(line + "\n" for line in lines)


def check_fingerprint(folder: Path, manifest: Manifest, fingerprint: Fingerprint) -> None:
    """Refuses an index that belongs to something else.

    Raises:
        ForeignIndexError: with both fingerprints.
    """
    if manifest.fingerprint != fingerprint:
        raise ForeignIndexError(
            f"{folder} belongs to another encoder, prompt or collection\n"
            + _comparison(manifest.fingerprint, fingerprint),
            hint="index the collection again with this model, or load the model it was made with",
        )


def _check_files(folder: Path, manifest: Manifest) -> None:
    """Holds the folder to the manifest: the same files, each with its hash, and no other file."""
    expected, found = set(manifest.files), set(_files_in(folder)) - {"manifest.json"}
    for name in sorted(expected ^ found):
        raise _corrupt(folder, f"{name} is {'missing' if name in expected else 'not part of it'}")
    for name, digest in manifest.files.items():
        if sha256_of(folder / name) != digest:
            raise _corrupt(folder, f"the SHA-256 of {name} is not {digest}")


def _files_in(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _corrupt(folder: Path, what: str) -> CorruptIndexError:
    return CorruptIndexError(
        f"{folder} is not a whole index: {what}", hint="copy it again, or index again"
    )


def _comparison(index: Fingerprint, asked: Fingerprint) -> str:
    return "\n".join(
        f"  {part:8} index {theirs}  asked for {ours}" + ("" if theirs == ours else "  <- differs")
        for (part, theirs), ours in zip(asdict(index).items(), asdict(asked).values(), strict=True)
    )
