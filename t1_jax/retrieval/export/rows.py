"""What is exported: the documents of an index with their embeddings, batch by batch."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32

from t1_jax.retrieval.index import (
    EmbeddingTable,
    Manifest,
    index_documents,
    load_index,
    read_manifest,
)

_BATCH = 1000


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Consecutive rows of an index.

    Attributes:
        ids: of the documents.
        titles: empty where the index has no texts.
        texts: likewise.
        vectors: unit vectors in float32.
    """

    ids: Sequence[str]
    titles: Sequence[str]
    texts: Sequence[str]
    vectors: Float32[np.ndarray, "B E"]


@dataclass(frozen=True, kw_only=True)
class IndexRows:
    """An index to export.

    Attributes:
        manifest: of the index.
        table: ids and vectors.
    """

    manifest: Manifest
    table: EmbeddingTable
    _texts: dict[str, tuple[str, str]]

    @classmethod
    def read(cls, folder: Path) -> "IndexRows":
        """Reads an index.

        Raises:
            CorruptIndexError, IndexVersionError: see each.
        """
        manifest = read_manifest(folder)
        table = load_index(folder, manifest.fingerprint, kind="numpy").table
        texts = {
            document.id: (document.title, document.text) for document in index_documents(folder)
        }
        return cls(manifest=manifest, table=table, _texts=texts)

    @property
    def width(self) -> int:
        """Number of dimensions."""
        return self.table.width

    def __len__(self) -> int:
        return len(self.table.ids)

    def batches(self, size: int = _BATCH) -> Iterator[Batch]:
        """Yields all rows in order; a number format other than float32 is converted."""
        for start in range(0, len(self), size):
            ids = self.table.ids[start : start + size]
            texts = [self._texts.get(identifier, ("", "")) for identifier in ids]
            yield Batch(
                ids=ids,
                titles=[title for title, _ in texts],
                texts=[text for _, text in texts],
                vectors=self.table.block(start, start + size),
            )
