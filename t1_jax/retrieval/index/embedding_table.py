"""Document ids with their normalized embeddings, and checks of the inputs of an index."""

from collections.abc import Collection as Items
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsIndex, TypeAlias

import numpy as np
from jaxtyping import Float32, Int

from t1_jax.errors import DataError
from t1_jax.progress import counted
from t1_jax.retrieval.index.precision import dequantize, truncate
from t1_jax.retrieval.ranking import tie_break_order

RowLists: TypeAlias = Sequence[Items[SupportsIndex]]
"""Row numbers for each query: one list, set or array per query, of any length."""

_UNIT_TOLERANCE = 1e-5
_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True, repr=False)
class EmbeddingTable:
    """Normalized document embeddings; row i of `stored` belongs to `ids[i]`.

    `from_vectors` checks and normalizes its input; the constructor does not. `block` and `take`
    read what they return, so a table may be a memory map that is larger than memory.

    Attributes:
        ids: one for each row.
        stored: the rows [C, E] in float32 at unit length, or in another number format of
            `t1_jax.retrieval.index.precision`; an array or a memory map.
        truncated_from: dimensions of the embeddings before Matryoshka truncation; queries of that
            many dimensions are truncated likewise. None means they were not truncated.
    """

    ids: tuple[str, ...]
    stored: np.ndarray
    truncated_from: int | None = None

    @classmethod
    def from_vectors(cls, ids: Sequence[str], vectors: np.ndarray) -> "EmbeddingTable":
        """Checks and normalizes vectors [C, E] of any float type.

        Raises:
            DataError: no rows, duplicate ids, another number of ids than rows, or vectors that
                are zero or not finite.
        """
        if len(ids) != len(vectors) or not ids:
            raise DataError(
                f"an index needs one id per vector: {len(ids)} ids, {len(vectors)} rows"
            )
        names = [f"document {identifier!r}" for identifier in ids]
        table = cls(ids=tuple(ids), stored=unit_vectors(vectors, names))
        if len(table.row_of) != len(ids):
            duplicate = next(key for row, key in enumerate(ids) if table.row_of[key] != row)
            raise DataError(f"document {duplicate!r} has more than one vector")
        return table

    def __repr__(self) -> str:
        return f"EmbeddingTable({counted(len(self.ids), 'rows')}, {self.width} dimensions)"

    @property
    def width(self) -> int:
        """Number of dimensions, E."""
        return self.stored.shape[1]

    @cached_property
    def vectors(self) -> Float32[np.ndarray, "C E"]:
        """All unit vectors; a number format other than float32 is converted as a whole."""
        return dequantize(self.stored)

    def block(self, start: int, stop: int) -> Float32[np.ndarray, "_ E"]:
        """The unit vectors of the rows from `start` to `stop`."""
        return dequantize(self.stored[start:stop])

    def take(self, rows: Int[np.ndarray, "R"]) -> Float32[np.ndarray, "R E"]:
        """The unit vectors of the given rows."""
        return dequantize(self.stored[rows])

    @cached_property
    def row_of(self) -> dict[str, int]:
        """Id -> row."""
        return {identifier: row for row, identifier in enumerate(self.ids)}

    @cached_property
    def tie_break_order(self) -> Int[np.ndarray, "C"]:
        """Rank of each row among rows of equal score."""
        return tie_break_order(self.ids)

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """Rows of the given ids.

        Raises:
            DataError: unknown id.
        """
        try:
            return [self.row_of[identifier] for identifier in ids]
        except KeyError as error:
            raise DataError(f"the index has no document {error.args[0]!r}") from error

    def normalize_queries(self, queries: np.ndarray) -> Float32[np.ndarray, "B E"]:
        """Checks and normalizes query embeddings; the result is float32.

        Raises:
            DataError: another number of dimensions than the table, or a vector that is zero or not
                finite.
        """
        if queries.ndim == 2 and queries.shape[1] == self.truncated_from:
            names = [f"query {row}" for row in range(len(queries))]
            return truncate(unit_vectors(queries, names), self.width)
        if queries.ndim == 2 and queries.shape[1] != self.width:
            raise DataError(
                f"queries have {queries.shape[1]} dimensions, the index has {self.width}",
                hint="encode both sides with the same model and the same truncation",
            )
        return unit_vectors(queries, [f"query {row}" for row in range(len(queries))])

    def pad_row_lists(
        self, rows: RowLists | None, n_queries: int, what: str
    ) -> Int[np.ndarray, "B X"]:
        """Lists of rows as an array, padded with −1 to the longest list; X may be 0.

        None means no rows for each query; `what` names the argument in errors.

        Raises:
            DataError: another number of lists than queries, or a row outside the table.
        """
        if rows is None:
            return np.empty((n_queries, 0), dtype=np.int64)
        if len(rows) != n_queries:
            raise DataError(f"{what}: {len(rows)} lists of rows for {n_queries} queries")
        padded = np.full((n_queries, max(map(len, rows), default=0)), -1, dtype=np.int64)
        for query, query_rows in enumerate(rows):
            padded[query, : len(query_rows)] = list(map(int, query_rows))
        if padded.size and not -1 <= padded.min() <= padded.max() < len(self.ids):
            raise DataError(f"{what}: a row outside 0 to {len(self.ids) - 1}")
        return padded


def unit_vectors(vectors: np.ndarray, names: Sequence[str]) -> Float32[np.ndarray, "B E"]:
    """Normalizes each row [B, E] in float32; rows with a norm within 1e-5 of 1 stay bit for bit.

    The vectors may have any float type; `names` are those of the rows in errors.

    Raises:
        DataError: not two-dimensional, no dimensions, or a row that is zero or not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(f"vectors must be [rows, dimensions], found the shape {vectors.shape}")
    with np.errstate(over="ignore"):
        units = np.array(vectors, dtype=np.float32)
    for start in range(0, len(units), _BLOCK_ROWS):
        block = units[start : start + _BLOCK_ROWS]
        norms = np.linalg.norm(block.astype(np.float64), axis=1)
        for row in np.flatnonzero(~np.isfinite(norms) | (norms == 0)).tolist():
            problem = "is zero" if norms[row] == 0 else "is not finite"
            raise DataError(
                f"the vector of {names[start + row]} {problem}",
                hint="encode it again in bfloat16 or float32, and check its text",
            )
        rescaled = np.abs(norms - 1) > _UNIT_TOLERANCE
        block[rescaled] = block[rescaled] / norms[rescaled, None]
    return units
