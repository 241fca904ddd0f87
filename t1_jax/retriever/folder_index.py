"""Keeps the index of a folder or collection up to date: only new and changed texts are encoded."""

import functools
import hashlib
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout

from t1_jax.errors import IndexContractError, T1Error
from t1_jax.hub import cache_folder
from t1_jax.progress import counted, duration_text, track
from t1_jax.retrieval import (
    Collection,
    Document,
    EmbeddingTable,
    FileState,
    Fingerprint,
    Index,
    Manifest,
    build_index,
    index_documents,
    load_index,
    read_manifest,
)
from t1_jax.retriever.canary import EQUAL_COSINE, differs_in_files_only, lowest_canary_cosine
from t1_jax.retriever.encoding import document_fingerprint
from t1_jax.retriever.opening import OpenedModel
from t1_jax.retriever.t1 import T1

_BLOCK = 256
"""Texts that are encoded at once. What is done is kept when a later block fails."""
_FIRST_BLOCK = 16
"""Texts of each of the first two blocks, which tell how long the others take."""


@dataclass(frozen=True, kw_only=True)
class StoredIndex:
    """An index as it was written the last time.

    Attributes:
        manifest: settings, and the files that were read.
        documents: passages.
        table: their embeddings.
    """

    manifest: Manifest
    documents: Sequence[Document]
    table: EmbeddingTable

    @property
    def files(self) -> dict[str, FileState]:
        """The state of each file when it was read."""
        return {
            name: FileState(*state) for name, state in self.manifest.source.get("files", {}).items()
        }


@dataclass(frozen=True, kw_only=True)
class IndexUpdate:
    """What an update did.

    Attributes:
        index: the index, up to date.
        encoded: number of distinct texts that were encoded.
        removed: number of documents that are gone.
    """

    index: Index
    encoded: int
    removed: int


def default_index_folder(root: Path) -> Path:
    """Where the index of a folder lies: in the cache, by its absolute path."""
    path = root.resolve()
    key = hashlib.sha256(str(path).encode(errors="surrogateescape")).hexdigest()[:12]
    return cache_folder() / "indexes" / f"{path.name[:40]}-{key}"


def read_stored_index(folder: Path) -> StoredIndex | None:
    """The index in a folder; None if there is none, or it is damaged or of another format."""
    try:
        manifest = read_manifest(folder)
        index = load_index(folder, manifest.fingerprint, kind="numpy")
        documents = index_documents(folder)
    except IndexContractError:
        return None
    return StoredIndex(manifest=manifest, documents=documents, table=index.table)


def update_index(
    folder: Path,
    stored: StoredIndex | None,
    documents: Sequence[Document],
    files: Mapping[str, FileState],
    *,
    root: Path,
    encoding: Mapping[str, Any],
    opened: OpenedModel,
    load: Callable[[], T1],
    show_progress_bar: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> IndexUpdate:
    """Makes the index in `folder` one of these documents, with embeddings of this model.

    Texts that the stored index has, embedded by the same model and prompt, are not encoded again. A
    model of other files, such as an export, is the same if it gives the embeddings that are stored.
    If encoding is interrupted, the embeddings so far are written, and the next update goes on.

    Args:
        folder: the index; it is replaced as a whole.
        stored: what `read_stored_index` found there.
        documents: all documents, in order.
        files: the state of each file; see `FolderContents`.
        root: the folder of the files.
        encoding: settings to store, see `encoding_record`.
        opened: the model.
        load: reads its weights; called at most once, and only if something is to be encoded.
        show_progress_bar: whether to show a bar with the time left.
        log: gets a line on how long encoding takes, and one if another process updates the index.

    Raises:
        T1Error: the write failed.
        DataError: as `T1.encode_document`.
    """
    with _locked(folder, log):
        # Another process may have written the index since it was read.
        if stored is None or _manifest(folder) != stored.manifest:
            stored = read_stored_index(folder) or stored
        return _update(
            folder,
            stored,
            documents,
            files,
            root=root,
            encoding=encoding,
            opened=opened,
            load=load,
            show_progress_bar=show_progress_bar,
            log=log,
        )


def _update(
    folder: Path,
    stored: StoredIndex | None,
    documents: Sequence[Document],
    files: Mapping[str, FileState],
    *,
    root: Path,
    encoding: Mapping[str, Any],
    opened: OpenedModel,
    load: Callable[[], T1],
    show_progress_bar: bool,
    log: Callable[[str], None],
) -> IndexUpdate:
    data_hash = Collection(
        name=root.name, documents=tuple(documents), queries=(), qrels={}
    ).data_hash
    fingerprint = document_fingerprint(opened, data_hash)
    load = functools.cache(load)
    vectors: dict[str, np.ndarray] = {}
    if stored is not None and _is_reusable(stored, fingerprint, encoding, load):
        rows = dict(zip(stored.table.ids, stored.table.vectors, strict=True))
        vectors = {document.full_text: rows[document.id] for document in stored.documents}
    missing = list(
        dict.fromkeys(item.full_text for item in documents if item.full_text not in vectors)
    )

    def write(written: Sequence[Document], states: Mapping[str, FileState]) -> Index:
        part = Collection(name=root.name, documents=tuple(written), queries=(), qrels={})
        index = build_index(
            "numpy",
            [document.id for document in written],
            np.stack([vectors[document.full_text] for document in written]),
        )
        source = {
            "root": str(root.resolve()),
            "files": {name: [state.size, state.modified_ns] for name, state in states.items()},
        }
        index.save(
            folder,
            document_fingerprint(opened, part.data_hash),
            encoding=encoding,
            source=source,
            documents=written,
            overwrite=True,
        )
        return index

    done = False
    try:
        if missing:
            _encode(load(), missing, vectors, show_progress_bar, log)
        done = True
    finally:
        # No file is known to be complete, so the next update reads them all.
        if not done and (partial := [d for d in documents if d.full_text in vectors]):
            write(partial, {})
    is_current = (
        stored is not None
        and stored.manifest.fingerprint == fingerprint
        and stored.manifest.encoding == _as_json(encoding)
        and stored.files == files
        and stored.table.ids == tuple(document.id for document in documents)
    )
    if stored is not None and is_current:
        index = build_index("numpy", stored.table.ids, stored.table.vectors)
    else:
        index = write(documents, files)
    gone = {item.id for item in stored.documents} if stored is not None else set()
    return IndexUpdate(
        index=index,
        encoded=len(missing),
        removed=len(gone - {document.id for document in documents}),
    )


@contextmanager
def _locked(folder: Path, log: Callable[[str], None]) -> Iterator[None]:
    """Lets one process at a time update an index; the others wait.

    Raises:
        T1Error: the lock cannot be created.
    """
    lock = FileLock(folder.with_name(f".{folder.name}.lock"))
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            log(f"another process is updating {folder}; waiting for it")
            lock.acquire()
    except OSError as error:
        raise T1Error(
            f"{folder} cannot be written: {error.strerror or error}",
            hint="check its permissions, or name another folder with --index",
        ) from error
    try:
        yield
    finally:
        lock.release()


def _manifest(folder: Path) -> Manifest | None:
    try:
        return read_manifest(folder)
    except IndexContractError:
        return None


def _is_reusable(
    stored: StoredIndex,
    fingerprint: Fingerprint,
    encoding: Mapping[str, Any],
    load: Callable[[], T1],
) -> bool:
    """Whether the model gives the stored embeddings, by its fingerprint or by a few texts."""
    before = stored.manifest.fingerprint
    if (before.encoder, before.prompt) == (fingerprint.encoder, fingerprint.prompt):
        return True
    if not stored.documents or not differs_in_files_only(stored.manifest, fingerprint, encoding):
        return False
    return lowest_canary_cosine(load(), stored.documents, stored.table) >= EQUAL_COSINE


def _encode(
    model: T1,
    texts: Sequence[str],
    vectors: dict[str, np.ndarray],
    show_progress_bar: bool,
    log: Callable[[str], None],
) -> None:
    """Adds the embedding of each text to `vectors`, block by block.

    The second of two small blocks, which compiles nothing, tells how long the rest takes.
    """
    ends = [*range(_FIRST_BLOCK, min(2 * _FIRST_BLOCK, len(texts)) + 1, _FIRST_BLOCK)]
    ends += [*range((ends or [0])[-1] + _BLOCK, len(texts), _BLOCK), len(texts)]
    start = 0
    with track("encoding", len(texts), "passages", shown=show_progress_bar) as advance:
        for number, end in enumerate(dict.fromkeys(ends)):
            began = time.monotonic()
            block = texts[start:end]
            vectors.update(zip(block, model.encode_document(block), strict=True))
            advance(len(block))
            start = end
            if number == 1 and end < len(texts):
                seconds = (time.monotonic() - began) * (len(texts) - end) / len(block)
                log(
                    f"{counted(len(texts), 'passages')} to encode, about {duration_text(seconds)}; "
                    "later searches encode only what has changed"
                )


def _as_json(encoding: Mapping[str, Any]) -> Any:
    return json.loads(json.dumps(encoding))
