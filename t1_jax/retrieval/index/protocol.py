"""The protocol of all index back ends; one conformance test covers them all."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.progress import counted
from t1_jax.retrieval.collection import Document
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.store import Fingerprint, write_index
from t1_jax.retrieval.trec import Run


@dataclass(frozen=True, kw_only=True, repr=False)
class SearchResult:
    """The top K rows of each query, in the order of `t1_jax.retrieval.ranking`.

    K is the requested number, or the number of all rows if that is smaller.

    Attributes:
        scores: cosine similarities; −inf beyond a query's last result.
        rows: rows of the index; −1 beyond a query's last result.
    """

    scores: Float32[np.ndarray, "B K"]
    rows: Int[np.ndarray, "B K"]

    def __repr__(self) -> str:
        queries, k = self.rows.shape
        return f"SearchResult({counted(queries, 'queries')}, top {k})"

    def to_run(self, query_ids: Sequence[str], ids: Sequence[str]) -> Run:
        """The result as a run; `ids` are the document ids of the index."""
        all_scores: list[list[float]] = self.scores.tolist()
        all_rows: list[list[int]] = self.rows.tolist()
        return {
            query_id: {ids[row]: score for score, row in zip(scores, rows, strict=True) if row >= 0}
            for query_id, scores, rows in zip(query_ids, all_scores, all_rows, strict=True)
        }


@runtime_checkable
class Index(Protocol):
    """Document embeddings that can be searched by cosine similarity.

    Rows keep the order of the input vectors. Every method raises DataError for queries that are
    zero, not finite or of another dimension, and for unknown rows.

    Attributes:
        kind: name of the back end in configs and manifests.
        table: ids and vectors.
    """

    kind: ClassVar[str]
    table: EmbeddingTable

    def __repr__(self) -> str:
        rows, width = len(self.table.ids), self.table.width
        return f"{type(self).__name__}({counted(rows, 'documents')}, {width} dimensions)"

    @property
    def ids(self) -> tuple[str, ...]:
        """Document id of each row."""
        return self.table.ids

    @property
    def vectors(self) -> Float32[np.ndarray, "C E"]:
        """Normalized embedding of each row."""
        return self.table.vectors

    def search(
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """The top `k` rows of each query.

        Args:
            queries: query embeddings; need not be normalized.
            k: number of results, at least 1; larger than the number of rows means all.
            excluded: rows to remove from each query's ranking before the top-k cut.
        """
        ...

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """Exact ranks of given rows: 1 + the number of other rows with an equal or higher score.

        Ties count against a row: if all vectors are equal, every rank is the last.

        Args:
            queries: query embeddings; need not be normalized.
            rows: R rows for each query; −1 is padding and has the rank −1.
            excluded: rows that are not counted, for each query.
        """
        ...

    def save(
        self,
        folder: Path,
        fingerprint: Fingerprint,
        *,
        encoding: Mapping[str, Any] | None = None,
        source: Mapping[str, Any] | None = None,
        documents: Iterable[Document] = (),
        overwrite: bool = False,
    ) -> None:
        """Writes the index; `load_index` reads it, and the folder can be moved.

        Args:
            folder: target folder.
            fingerprint: fingerprint of encoder, prompt and collection.
            encoding: encoding settings, see `Manifest.encoding`.
            source: the folder of the documents, see `Manifest.source`.
            documents: documents to store, so that results have titles and texts; may be empty.
            overwrite: whether to replace an existing folder.

        Raises:
            T1Error: the folder exists (without `overwrite`), or the write failed.
        """
        write_index(
            folder,
            self.kind,
            self.table,
            fingerprint,
            encoding=encoding,
            source=source,
            documents=documents,
            overwrite=overwrite,
            **self._backend_files(),
        )

    def _backend_files(self) -> dict[str, Any]:
        """Arguments of `write_index` that are specific to this back end."""
        return {}
