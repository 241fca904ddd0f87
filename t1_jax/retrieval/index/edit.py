"""Adds, updates and removes documents of a saved index."""

import hashlib
from collections.abc import Collection as Items
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.collection import Collection, Document
from t1_jax.retrieval.index.build import build_from_table, load_index, settings_type
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, unit_vectors
from t1_jax.retrieval.index.precision import quantize, truncate
from t1_jax.retrieval.index.store import Manifest, index_documents, read_manifest

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
    stored = {document.id: document for document in index_documents(folder)}
    if not stored:
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

    Updated documents keep their row. What an approximate back end has trained is trained again, and
    its recall is measured again. The index is read into memory and replaced in one step.

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
    gone = set(table.rows_of(removed))
    stored_documents = index_documents(folder)
    texts = {document.id: document for document in stored_documents}
    kept = [row for row in range(len(table.ids)) if row not in gone]
    ids = [table.ids[row] for row in kept]
    stored = table.stored[kept]
    if documents:
        assert vectors is not None
        units = unit_vectors(vectors, [f"document {document.id!r}" for document in documents])
        fresh = quantize(truncate(units, table.width), manifest.precision)
        row_of = {identifier: row for row, identifier in enumerate(ids)}
        new = [place for place, document in enumerate(documents) if document.id not in row_of]
        for place, document in enumerate(documents):
            if document.id in row_of:
                stored[row_of[document.id]] = fresh[place]
        stored = np.concatenate([stored, fresh[new]])
        ids += [documents[place].id for place in new]
        texts |= {document.id: document for document in documents}
    if not ids:
        raise DataError(f"no document would be left in {folder}", hint="delete the folder instead")
    kept_documents = [texts[identifier] for identifier in ids] if stored_documents else []
    index = build_from_table(
        manifest.kind,
        EmbeddingTable(ids=tuple(ids), stored=stored, truncated_from=table.truncated_from),
        settings=_settings(manifest),
    )
    index.save(
        folder,
        replace(manifest.fingerprint, data=_data_hash(manifest, kept_documents, removed)),
        encoding=manifest.encoding,
        documents=kept_documents,
        overwrite=True,
    )
    return read_manifest(folder)


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


def _data_hash(manifest: Manifest, documents: Sequence[Document], removed: Items[str]) -> str:
    """`Collection.data_hash`; without texts, a hash of the previous one and the changes."""
    if documents:
        return Collection(name="", documents=tuple(documents), queries=(), qrels={}).data_hash
    changed = "\n".join([manifest.fingerprint.data, *sorted(removed)])
    return hashlib.sha256(changed.encode(errors="surrogatepass")).hexdigest()
