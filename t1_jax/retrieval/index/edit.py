"""Adds, updates and removes documents of a saved index."""

import hashlib
from collections.abc import Collection as Items
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.collection import Collection, Document
from t1_jax.retrieval.index.build import build_from_table, load_index, settings_type
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, unit_vectors
from t1_jax.retrieval.index.precision import quantize, truncate
from t1_jax.retrieval.index.store import (
    DOCUMENTS_FILE,
    Manifest,
    read_manifest,
    rewrite_exact_index,
    stream_documents,
)

_BLOCK_BYTES = 1 << 23
_NAMED, _COMPARED = 5, 10_000
"""Unknown ids that an error names, and ids that are compared with the first of them."""
_MEASURED = ("leaves_to_search", "lists_to_search", "ef_search", "candidates")


@dataclass(frozen=True, kw_only=True)
class DocumentChanges:
    """Documents compared with those of an index.

    Attributes:
        added: documents with new ids.
        updated: documents whose title or text differs from that of the index.
        unchanged: number of the others.
    """

    added: Sequence[Document]
    updated: Sequence[Document]
    unchanged: int


def find_changes(folder: Path, documents: Sequence[Document]) -> DocumentChanges:
    """Compares documents with those of an index.

    Raises:
        ConfigError: the index follows a folder, or has no documents.
        CorruptIndexError, IndexVersionError: see each.
    """
    _check_editable(folder, read_manifest(folder))
    given = {document.id: document for document in documents}
    stored = {}
    has_texts = False
    for document in stream_documents(folder):
        has_texts = True
        if document.id in given:
            stored[document.id] = document
    if not has_texts:
        raise ConfigError(
            f"{folder} has vectors without texts, so that it is not known which ones changed",
            hint="build an index of documents: t1 index build FOLDER -c COLLECTION",
        )
    added = [document for document in documents if document.id not in stored]
    updated = [
        document
        for document in documents
        if document.id in stored
        and (document.title, document.text) != (stored[document.id].title, stored[document.id].text)
    ]
    return DocumentChanges(
        added=added, updated=updated, unchanged=len(documents) - len(added) - len(updated)
    )


def edit_index(
    folder: Path,
    *,
    documents: Sequence[Document] = (),
    vectors: Float[np.ndarray, "B E"] | None = None,
    removed: Items[str] = (),
) -> Manifest:
    """Rewrites an index with documents added, updated or removed; the others are not encoded again.

    Updated documents keep their row. An exact index is copied block by block, so it may be larger
    than memory. What an approximate back end has trained is trained again, in memory, and its
    recall is measured again. The index is replaced in one step.

    Args:
        folder: the index.
        documents: new documents, and new versions of documents of the index.
        vectors: their embeddings, by the encoder of the index.
        removed: ids of documents to remove.

    Raises:
        ConfigError: the index follows a folder.
        DataError: an id to remove is unknown, or no document would be left.
        IndexContractError: see `ApproximateIndex.build`; the index is unchanged.
        CorruptIndexError, IndexVersionError: see each.
        T1Error: the write failed; the index is unchanged.
    """
    manifest = read_manifest(folder)
    _check_editable(folder, manifest)
    table = load_index(folder, manifest.fingerprint, kind="numpy").table
    gone = _rows_of(folder, table, removed)
    edited = _edited(table, manifest, gone, documents, vectors)
    if not edited.ids:
        raise DataError(f"no document would be left in {folder}", hint="delete the folder instead")
    has_texts = DOCUMENTS_FILE in manifest.files
    texts = _edited_documents(folder, edited, set(removed), documents) if has_texts else ()
    data_hash = _changed_hash(manifest, [*removed, *(document.id for document in documents)])
    if settings_type(manifest.kind) is None:  # an exact back end has none
        rewrite_exact_index(folder, manifest, edited.ids, edited.blocks, texts, data_hash=data_hash)
        return read_manifest(folder)
    stored = np.concatenate(list(edited.blocks))
    kept = tuple(texts)
    if kept:
        data_hash = Collection(name="", documents=kept, queries=(), qrels={}).data_hash
    index = build_from_table(
        manifest.kind,
        EmbeddingTable(ids=tuple(edited.ids), stored=stored, truncated_from=table.truncated_from),
        settings=_settings(manifest),
    )
    index.save(
        folder,
        replace(manifest.fingerprint, data=data_hash),
        encoding=manifest.encoding,
        documents=kept,
        overwrite=True,
    )
    return read_manifest(folder)


@dataclass(frozen=True, kw_only=True, eq=False)
class _Edited:
    """The rows of an edited index: their ids, the rows in blocks, and the new documents."""

    ids: Sequence[str]
    blocks: Iterator[np.ndarray]
    new: Sequence[Document]


def _edited(
    table: EmbeddingTable,
    manifest: Manifest,
    gone: Items[int],
    documents: Sequence[Document],
    vectors: np.ndarray | None,
) -> _Edited:
    keep = np.ones(len(table.ids), dtype=bool)
    keep[list(gone)] = False
    latest = {document.id: place for place, document in enumerate(documents)}
    fresh = np.empty((0, table.width), table.stored.dtype)
    if vectors is not None:
        units = unit_vectors(vectors, [f"document {document.id!r}" for document in documents])
        fresh = quantize(truncate(units, table.width), manifest.precision)
    kept_row = {
        identifier: row for identifier in latest
        if (row := table.row_of.get(identifier)) is not None and keep[row]
    }  # fmt: skip
    new = [place for identifier, place in latest.items() if identifier not in kept_row]
    replaced = {row: fresh[latest[identifier]] for identifier, row in kept_row.items()}

    def blocks() -> Iterator[np.ndarray]:
        size = max(_BLOCK_BYTES // max(table.stored[:1].nbytes, 1), 1)
        for start in range(0, len(keep), size):
            rows = np.flatnonzero(keep[start : start + size]) + start
            block = np.array(table.stored[rows])
            for place, row in enumerate(rows.tolist()):
                if row in replaced:
                    block[place] = replaced[row]
            yield block
        yield fresh[new]

    ids = [table.ids[row] for row in np.flatnonzero(keep).tolist()]
    return _Edited(
        ids=ids + [documents[place].id for place in new],
        blocks=blocks(),
        new=[documents[place] for place in new],
    )


def _edited_documents(
    folder: Path, edited: _Edited, removed: Items[str], documents: Sequence[Document]
) -> Iterator[Document]:
    """The documents of an index in the order of its rows, without those that are removed."""
    latest = {document.id: document for document in documents}
    for document in stream_documents(folder):
        if document.id not in removed:
            yield latest.get(document.id, document)
    yield from edited.new


def _rows_of(folder: Path, table: EmbeddingTable, removed: Items[str]) -> list[int]:
    unknown = [name for name in dict.fromkeys(removed) if name not in table.row_of]
    if not unknown:
        return [table.row_of[name] for name in removed]
    more = ", ..." if len(unknown) > _NAMED else ""
    close = get_close_matches(unknown[0], table.ids[:_COMPARED], n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    raise DataError(
        f"{folder} has no document {', '.join(map(repr, unknown[:_NAMED]))}{more}; nothing was "
        "deleted",
        hint=f"{meant}{folder / 'ids.json'} lists all ids",
    )


def _check_editable(folder: Path, manifest: Manifest) -> None:
    if manifest.source:
        raise ConfigError(
            f"{folder} follows the files of {manifest.source['root']}",
            hint="change the files: the next search updates the index",
        )


def _settings(manifest: Manifest) -> Any:
    """The settings of an approximate back end, with those of searches to be measured again."""
    cls = settings_type(manifest.kind)
    if cls is None:
        return None
    kept = {name: value for name, value in manifest.settings.items() if name not in _MEASURED}
    return cls(**kept)


def _changed_hash(manifest: Manifest, changed: Items[str]) -> str:
    """Without texts: a hash of the previous one and the changes."""
    text = "\n".join([manifest.fingerprint.data, *sorted(changed)])
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
