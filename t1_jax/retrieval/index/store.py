"""The format of an index on disk: manifest, ids, vectors, documents, and files of the back end.

Paths in the manifest are relative, so the folder can be moved. The manifest lists the SHA-256 of
every file, so damage is detected, and the fingerprint of encoder, prompt and collection.
`documents.jsonl` is optional: with it, results have titles and BM25 can search the same documents.
"""

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from t1_jax.errors import IndexContractError
from t1_jax.files import atomic_folder, sha256_of
from t1_jax.retrieval.collection import Document, SourceLocation
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.precision import (
    STORED_DTYPES,
    StoredPrecision,
    check_truncation,
    quantize,
    truncate,
)
from t1_jax.retrieval.jsonl import read_records

FORMAT_VERSION = 4
"""Version of the format; increased when older readers would misread the files."""

HASHED_BYTES = 64 << 20
"""Files up to this size are compared with their SHA-256 whenever an index is opened."""

DOCUMENTS_FILE = "documents.jsonl"
_VECTORS_FILE = "vectors.npy"
_COPIED_ROWS = 1 << 14


class CorruptIndexError(IndexContractError):
    """A file of the index is missing, damaged or unknown."""


class IndexVersionError(IndexContractError):
    """The index has a format version that this version of the package cannot read."""


class IndexMismatchError(IndexContractError):
    """The index belongs to another encoder, prompt or collection."""


@dataclass(frozen=True, kw_only=True)
class Fingerprint:
    """Identity of the vectors in an index, as hex digests.

    Attributes:
        encoder: digest of weights, tokenizer and numeric settings.
        prompt: digest of the document prompt.
        data: digest of the documents, see `Collection.data_hash`.

    Raises:
        IndexContractError: a digest is not lower-case hexadecimal.
    """

    encoder: str
    prompt: str
    data: str

    def __post_init__(self) -> None:
        for part, value in asdict(self).items():
            if not re.fullmatch("[0-9a-f]+", value):
                raise IndexContractError(f"fingerprint: {part} must be a hex digest, got {value!r}")


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The content of `manifest.json`.

    Attributes:
        version: format version, see `FORMAT_VERSION`.
        kind: back end that wrote the index.
        count: number of rows.
        width: number of dimensions.
        precision: number format of the vectors.
        truncated_from: see `EmbeddingTable`.
        recall_at_10: recall@10 against exact search at build time; 1 for exact back ends.
        measured: what else was measured at build time: queries, speed, loss of precision.
        settings: settings of the back end.
        encoding: settings with which documents were encoded and queries must be encoded (model,
            dtype, preset, instruction, limits), as JSON values; may be empty.
        source: the folder that the documents were read from (`root`) and the state of its `files`,
            see `t1_jax.retrieval.folder`; empty for other documents.
        files: path relative to the folder -> SHA-256, for every other file.
        sizes: path -> bytes; empty in indexes of earlier versions.
    """

    version: int = FORMAT_VERSION
    kind: str
    count: int
    width: int
    fingerprint: Fingerprint
    precision: StoredPrecision = "float32"
    truncated_from: int | None = None
    recall_at_10: float = 1.0
    measured: Mapping[str, Any] = field(default_factory=dict)
    settings: Mapping[str, object] = field(default_factory=dict)
    encoding: Mapping[str, Any] = field(default_factory=dict)
    source: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str]
    sizes: Mapping[str, int] = field(default_factory=dict)


def write_index(
    folder: Path,
    kind: str,
    table: EmbeddingTable,
    fingerprint: Fingerprint,
    *,
    recall_at_10: float = 1.0,
    measured: Mapping[str, Any] | None = None,
    settings: Mapping[str, object] | None = None,
    encoding: Mapping[str, Any] | None = None,
    source: Mapping[str, Any] | None = None,
    documents: Iterable[Document] = (),
    write_backend_files: Callable[[Path], None] | None = None,
    overwrite: bool = False,
) -> None:
    """Writes an index atomically; see `Manifest` and `Index.save`.

    `write_backend_files` writes further files of the back end to the given folder.

    Raises:
        T1Error: the folder exists (without `overwrite`), or the write failed.
    """
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        _write_vectors(
            scratch / _VECTORS_FILE, [table.stored], table.stored.shape, table.stored.dtype
        )
        write_documents(scratch / DOCUMENTS_FILE, documents)
        if write_backend_files:
            write_backend_files(scratch)
        _finish(
            scratch,
            table.ids,
            kind=kind,
            width=table.width,
            fingerprint=fingerprint,
            precision=_precision_of(table.stored.dtype),
            truncated_from=table.truncated_from,
            recall_at_10=recall_at_10,
            measured=measured or {},
            settings=settings or {},
            encoding=encoding or {},
            source=source or {},
        )


def write_exact_index(
    folder: Path,
    ids: Sequence[str],
    blocks: Iterable[Float32[np.ndarray, "_ E"]],
    width: int,
    fingerprint: Fingerprint,
    *,
    precision: StoredPrecision = "float32",
    truncate_dim: int | None = None,
    measured: Mapping[str, Any] | None = None,
    encoding: Mapping[str, Any],
    document_files: Iterable[Path],
    overwrite: bool = False,
) -> None:
    """Writes an exact index whose vectors and documents come in pieces that fit into memory.

    Args:
        folder: the index, written atomically.
        ids: one id per row.
        blocks: unit vectors in the order of `ids`.
        width: E.
        fingerprint: see `Fingerprint`.
        precision: number format in which the vectors are stored.
        truncate_dim: dimensions to keep; None keeps all.
        measured: see `Manifest`.
        encoding: see `Manifest`.
        document_files: pieces of `documents.jsonl`, as `write_documents` writes them.
        overwrite: whether to replace an index.

    Raises:
        ConfigError: more dimensions to keep than there are.
        T1Error: the folder exists (without `overwrite`), or the write failed.
    """
    check_truncation(truncate_dim, width)
    kept = truncate_dim or width
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        _write_vectors(
            scratch / _VECTORS_FILE,
            (quantize(truncate(block, kept), precision) for block in blocks),
            (len(ids), kept),
            STORED_DTYPES[precision],
        )
        with (scratch / DOCUMENTS_FILE).open("wb") as documents:
            for piece in document_files:
                with piece.open("rb") as file:
                    shutil.copyfileobj(file, documents)
        _finish(
            scratch,
            ids,
            kind="numpy",
            width=kept,
            fingerprint=fingerprint,
            precision=precision,
            truncated_from=width if kept < width else None,
            measured=measured or {},
            encoding=encoding,
        )


def rewrite_exact_index(
    folder: Path,
    manifest: Manifest,
    ids: Sequence[str],
    blocks: Iterable[np.ndarray],
    documents: Iterable[Document],
    *,
    data_hash: str,
) -> None:
    """Replaces an exact index in one step by one with other rows and the same settings.

    Memory holds the ids, a block and a document.

    Args:
        folder: the index.
        manifest: its manifest.
        ids: one id per row.
        blocks: rows as they are stored, in the order of `ids`; may come from the index itself.
        documents: texts; none for an index of vectors only.
        data_hash: the new `Fingerprint.data` of an index of vectors only.

    Raises:
        T1Error: the write failed; the index is unchanged.
    """
    with atomic_folder(Path(folder), overwrite=True) as scratch:
        _write_vectors(
            scratch / _VECTORS_FILE,
            blocks,
            (len(ids), manifest.width),
            STORED_DTYPES[manifest.precision],
        )
        texts = scratch / DOCUMENTS_FILE
        write_documents(texts, documents)
        data = documents_hash([texts]) if texts.exists() else data_hash
        _finish(
            scratch,
            ids,
            kind=manifest.kind,
            width=manifest.width,
            fingerprint=replace(manifest.fingerprint, data=data),
            precision=manifest.precision,
            truncated_from=manifest.truncated_from,
            encoding=manifest.encoding,
        )


def _write_vectors(
    path: Path, blocks: Iterable[np.ndarray], shape: tuple[int, ...], dtype: np.dtype
) -> None:
    """Writes rows as one .npy file; bfloat16, which the format lacks, is `V2` in it."""
    descr = np.lib.format.dtype_to_descr(dtype)
    header = {"descr": descr, "fortran_order": False, "shape": shape}
    with path.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for block in blocks:
            for start in range(0, len(block), _COPIED_ROWS):
                rows = np.ascontiguousarray(block[start : start + _COPIED_ROWS], dtype)
                file.write(rows.view(np.uint8).data)


def _precision_of(dtype: np.dtype) -> StoredPrecision:
    return next(name for name, stored in STORED_DTYPES.items() if stored == dtype)


def _finish(scratch: Path, ids: Sequence[str], **fields: Any) -> None:
    """Writes ids, and the manifest with the hashes of all files."""
    (scratch / "ids.json").write_text(json.dumps(list(ids)), encoding="utf-8")
    files = {name: sha256_of(scratch / name) for name in _files_in(scratch)}
    sizes = {name: (scratch / name).stat().st_size for name in files}
    manifest = Manifest(count=len(ids), files=files, sizes=sizes, **fields)
    text = json.dumps(asdict(manifest), indent=2)
    (scratch / "manifest.json").write_text(text + "\n", encoding="utf-8")


def read_index(folder: Path, fingerprint: Fingerprint) -> tuple[Manifest, EmbeddingTable]:
    """Reads and checks an index; the vectors are memory-mapped.

    Of a file of more than `HASHED_BYTES` only the size is checked; `verify_index` reads it whole.

    Raises:
        CorruptIndexError, IndexVersionError, IndexMismatchError: see each.
    """
    folder = Path(folder)
    manifest = read_manifest(folder)
    check_fingerprint(folder, manifest, fingerprint)
    _check_files(folder, manifest, whole=False)
    try:
        ids = json.loads((folder / "ids.json").read_bytes())
        stored = np.load(folder / _VECTORS_FILE, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise _corrupt(folder, str(error)) from error
    dtype = STORED_DTYPES.get(manifest.precision)
    if dtype is not None and stored.dtype == np.dtype(f"V{dtype.itemsize}"):
        stored = stored.view(dtype)
    expected = (manifest.count, (manifest.count, manifest.width), dtype)
    if (len(ids), stored.shape, stored.dtype) != expected:
        raise _corrupt(folder, f"vectors {stored.dtype}{stored.shape} and {len(ids)} ids")
    return manifest, EmbeddingTable(
        ids=tuple(ids), stored=stored, truncated_from=manifest.truncated_from
    )


def read_manifest(folder: Path) -> Manifest:
    """Reads `manifest.json` only.

    Raises:
        CorruptIndexError: the file is missing or malformed.
        IndexVersionError: unknown format version.
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
    if not 1 <= version <= FORMAT_VERSION:
        raise IndexVersionError(
            f"{folder} has format version {version}; this version of t1_jax reads 1 to "
            f"{FORMAT_VERSION}",
            hint="install a newer t1_jax, or build the index again",
        )
    try:
        return Manifest(**(fields | {"fingerprint": Fingerprint(**fields["fingerprint"])}))
    except (TypeError, KeyError) as error:
        raise _corrupt(folder, f"manifest.json is malformed ({error})") from error


def index_documents(folder: Path) -> tuple[Document, ...]:
    """The documents in an index; empty if it was built from vectors only.

    Raises:
        CorruptIndexError: the file is missing or differs from its SHA-256 in the manifest.
    """
    return tuple(stream_documents(folder))


def stream_documents(folder: Path) -> Iterator[Document]:
    """Yields the documents in an index, one at a time; see `index_documents`."""
    folder = Path(folder)
    manifest = read_manifest(folder)
    if DOCUMENTS_FILE not in manifest.files:
        return
    if not (folder / DOCUMENTS_FILE).is_file():
        raise _corrupt(folder, f"{DOCUMENTS_FILE} is missing")
    _check_file(folder, manifest, DOCUMENTS_FILE, whole=False)
    yield from read_documents(folder / DOCUMENTS_FILE)


def documents_hash(files: Sequence[Path]) -> str:
    """`Collection.data_hash` of the documents in files that `write_documents` wrote.

    Memory holds ids and places, and one document at a time.
    """
    places: list[tuple[str, int, int]] = []
    with ExitStack() as stack:
        opened = [stack.enter_context(path.open("rb")) for path in files]
        for number, file in enumerate(opened):
            start = 0
            for line in file:
                places.append((json.loads(line)["_id"], number, start))
                start += len(line)
        digest = hashlib.sha256()
        for _, number, start in sorted(places):
            opened[number].seek(start)
            fields = json.loads(opened[number].readline())
            row = (fields["_id"], fields["title"], fields["text"])
            digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
        return digest.hexdigest()


def read_documents(path: Path) -> Iterator[Document]:
    """Yields the documents of a file that `write_documents` wrote."""
    return (_stored_document(record.fields) for record in read_records(path))


def _stored_document(fields: Mapping[str, Any]) -> Document:
    path = fields.get("path")
    location = None if path is None else SourceLocation(path=Path(path), line=fields["line"])
    return Document(
        id=str(fields["_id"]), title=fields["title"], text=fields["text"], location=location
    )


def write_documents(path: Path, documents: Iterable[Document]) -> None:
    """Writes documents as JSONL; no file if there are none."""
    lines = (json.dumps(_document_fields(document)) for document in documents)
    first = next(lines, None)
    if first is None:
        return
    with path.open("w", encoding="utf-8") as file:
        file.write(first + "\n")
        file.writelines(line + "\n" for line in lines)


def _document_fields(document: Document) -> dict[str, Any]:
    fields = {"_id": document.id, "title": document.title, "text": document.text}
    if document.location is not None:
        fields |= {"path": document.location.path.as_posix(), "line": document.location.line}
    return fields


def check_fingerprint(folder: Path, manifest: Manifest, fingerprint: Fingerprint) -> None:
    """Raises IndexMismatchError, which shows both fingerprints, if an index has another one."""
    if manifest.fingerprint != fingerprint:
        raise IndexMismatchError(
            f"{folder} belongs to another encoder, prompt or collection\n"
            + _comparison(manifest.fingerprint, fingerprint),
            hint="build the index again with this model, or load the model that it was built with",
        )


def verify_index(folder: Path) -> Manifest:
    """Compares every file of an index with its SHA-256.

    Raises:
        CorruptIndexError, IndexVersionError: see each.
    """
    manifest = read_manifest(folder)
    _check_files(Path(folder), manifest, whole=True)
    return manifest


def _check_files(folder: Path, manifest: Manifest, *, whole: bool) -> None:
    """Raises unless the folder has exactly the files of the manifest, undamaged."""
    expected, present = set(manifest.files), set(_files_in(folder)) - {"manifest.json"}
    for name in sorted(expected ^ present):
        raise _corrupt(
            folder, f"{name} is {'missing' if name in expected else 'not in the manifest'}"
        )
    for name in manifest.files:
        _check_file(folder, manifest, name, whole=whole)


def _check_file(folder: Path, manifest: Manifest, name: str, *, whole: bool) -> None:
    """Compares the size of a file, and its SHA-256 if it is small or `whole`."""
    size, digest = (folder / name).stat().st_size, manifest.files[name]
    expected = manifest.sizes.get(name)
    if expected is not None and size != expected:
        raise _corrupt(folder, f"{name} has {size:,} bytes, expected {expected:,}")
    is_hashed = whole or expected is None or size <= HASHED_BYTES
    if is_hashed and sha256_of(folder / name) != digest:
        raise _corrupt(folder, f"the SHA-256 of {name} is not {digest}")


def _files_in(folder: Path) -> list[str]:
    return sorted(
        path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()
    )


def _corrupt(folder: Path, what: str) -> CorruptIndexError:
    return CorruptIndexError(
        f"{folder} is damaged: {what}", hint="copy it again, or build the index again"
    )


def _comparison(index: Fingerprint, expected: Fingerprint) -> str:
    pairs = zip(asdict(index).items(), asdict(expected).values(), strict=True)
    return "\n".join(
        f"  {part:8} index {actual}  expected {wanted}"
        + ("" if actual == wanted else "  <- differs")
        for (part, actual), wanted in pairs
    )
