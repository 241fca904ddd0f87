"""What every index back end does; one conformance test holds them all to it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float, Float32, Int

from t1_jax.retrieval.collection import Document
from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.store import Fingerprint, write_index
from t1_jax.retrieval.trec import Run


@dataclass(frozen=True, kw_only=True)
class SearchResult:
    """The best rows of each query, best first, in the order of `t1_jax.retrieval.ranking`.

    K is the number that was asked for, or that of all rows if there are fewer.

    Attributes:
        scores: cosines; −inf where a query has fewer than K results.
        rows: rows of the index; −1 where a query has fewer than K results.
    """

    scores: Float32[np.ndarray, "B K"]
    rows: Int[np.ndarray, "B K"]

    def to_run(self, query_ids: Sequence[str], ids: Sequence[str]) -> Run:
        """The same as a run; `ids` are those of the index that was searched."""
        all_scores: list[list[float]] = self.scores.tolist()
        all_rows: list[list[int]] = self.rows.tolist()
        return {
            query_id: {ids[row]: score for score, row in zip(scores, rows, strict=True) if row >= 0}
            for query_id, scores, rows in zip(query_ids, all_scores, all_rows, strict=True)
        }


@runtime_checkable
class Index(Protocol):
    """Document vectors that can be searched by cosine.

    Rows keep the order in which the vectors were given. Every method raises DataError for queries
    that are not finite, zero, or of another width, and for rows that do not exist.

    Attributes:
        kind: the back end's name in configs and manifests.
        table: ids and vectors.
    """

    kind: ClassVar[str]
    table: EmbeddingTable

    @property
    def ids(self) -> tuple[str, ...]:
        """The id of each row."""
        return self.table.ids

    @property
    def vectors(self) -> Float32[np.ndarray, "C E"]:
        """The unit vector of each row."""
        return self.table.vectors

    def search(
        self,
        queries: Float[np.ndarray, "B E"],
        k: int,
        excluded: RowLists | None = None,
    ) -> SearchResult:
        """The best `k` rows of each query.

        Args:
            queries: vectors; they need not have unit length.
            k: at least 1; more than there are rows asks for all.
            excluded: for each query the rows taken out of its ranking before the cut.
        """
        ...

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """The exact rank of given rows: 1 + the number of other rows that score as high or higher.

        So ties count against a row: where all vectors are equal every rank is the last one.

        Args:
            queries: vectors; they need not have unit length.
            rows: R rows for each query, −1 for none; the rank of none is −1.
            excluded: for each query the rows that do not count as others.
        """
        ...

    def save(
        self,
        folder: Path,
        fingerprint: Fingerprint,
        *,
        encoding: Mapping[str, Any] | None = None,
        documents: Iterable[Document] = (),
        overwrite: bool = False,
    ) -> None:
        """Writes the index so that `load_index` restores it wherever the folder is moved.

        Args:
            folder: becomes the index.
            fingerprint: whose vectors these are.
            encoding: how they were made, see `Manifest.encoding`.
            documents: kept beside the vectors.
            overwrite: replace what is at `folder`.

        Raises:
            T1Error: the folder exists (without `overwrite`), or the disk refuses.
        """
        write_index(
            folder,
            self.kind,
            self.table,
            fingerprint,
            encoding=encoding,
            documents=documents,
            overwrite=overwrite,
            **self._backend_files(),
        )

    def _backend_files(self) -> dict[str, Any]:
        """The arguments of `write_index` that belong to this back end."""
        return {}
