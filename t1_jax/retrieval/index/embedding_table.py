"""The rows of an index: ids beside unit vectors, and the checks on what comes in."""

from collections.abc import Collection as Items
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import SupportsIndex, TypeAlias

import numpy as np
from jaxtyping import Float32, Int

from t1_jax.errors import DataError
from t1_jax.retrieval.ranking import tie_break_order

RowLists: TypeAlias = Sequence[Items[SupportsIndex]]
"""Row numbers for each query: lists, sets or arrays, one a query, of any lengths."""

_UNIT_TOLERANCE = 1e-5
_BLOCK_ROWS = 1 << 16


@dataclass(frozen=True, kw_only=True)
class EmbeddingTable:
    """Documents as unit vectors; row i of `vectors` belongs to `ids[i]`.

    Build one with `EmbeddingTable.of`, which checks; the constructor trusts.
    """

    ids: tuple[str, ...]
    vectors: Float32[np.ndarray, "C E"]

    @classmethod
    def of(cls, ids: Sequence[str], vectors: np.ndarray) -> "EmbeddingTable":
        """Checks and normalizes vectors of any float type, [C, E].

        Raises:
            DataError: no row, ids that repeat or are not as many as rows, or vectors that
                `unit_vectors` refuses.
        """
        if len(ids) != len(vectors) or not ids:
            raise DataError(
                f"an index needs one id per vector: {len(ids)} ids, {len(vectors)} rows"
            )
        names = [f"document {identifier!r}" for identifier in ids]
        table = cls(ids=tuple(ids), vectors=unit_vectors(vectors, names))
        if len(table.row_of) != len(ids):
            repeated = next(key for row, key in enumerate(ids) if table.row_of[key] != row)
            raise DataError(f"document {repeated!r} has more than one vector")
        return table

    @property
    def width(self) -> int:
        """E, the number of dimensions."""
        return self.vectors.shape[1]

    @cached_property
    def row_of(self) -> dict[str, int]:
        """The row of each id."""
        return {identifier: row for row, identifier in enumerate(self.ids)}

    @cached_property
    def tie_break_order(self) -> Int[np.ndarray, "C"]:
        """The place of each row among rows of equal score."""
        return tie_break_order(self.ids)

    def rows_of(self, ids: Iterable[str]) -> list[int]:
        """The rows of some ids.

        Raises:
            DataError: an id that the table does not have.
        """
        try:
            return [self.row_of[identifier] for identifier in ids]
        except KeyError as error:
            raise DataError(f"the index has no document {error.args[0]!r}") from error

    def checked_queries(self, queries: np.ndarray) -> Float32[np.ndarray, "B E"]:
        """Query vectors as the table's own: float32, unit, of its width.

        Raises:
            DataError: another width, or vectors that `unit_vectors` refuses.
        """
        if queries.ndim == 2 and queries.shape[1] != self.width:
            raise DataError(
                f"queries have {queries.shape[1]} dimensions, the index has {self.width}",
                hint="encode both sides with the same model and the same truncation",
            )
        return unit_vectors(queries, [f"query {row}" for row in range(len(queries))])

    def checked_rows(
        self, rows: RowLists | None, n_queries: int, what: str
    ) -> Int[np.ndarray, "B X"]:
        """Rows named for each query, padded with −1 to the longest list; X may be 0.

        Raises:
            DataError: not one list per query, or a row outside the table.
        """
        if rows is None:
            return np.empty((n_queries, 0), dtype=np.int64)
        if len(rows) != n_queries:
            raise DataError(f"{what}: {len(rows)} lists of rows for {n_queries} queries")
        padded = np.full((n_queries, max(map(len, rows), default=0)), -1, dtype=np.int64)
        for query, named in enumerate(rows):
            padded[query, : len(named)] = list(map(int, named))
        if padded.size and not -1 <= padded.min() <= padded.max() < len(self.ids):
            raise DataError(f"{what}: a row outside 0 to {len(self.ids) - 1}")
        return padded


def unit_vectors(vectors: np.ndarray, names: Sequence[str]) -> Float32[np.ndarray, "B E"]:
    """Each row in float32, divided by its length; rows of length 1 (to 1e-5) stay bit for bit.

    Args:
        vectors: [B, E], any float type.
        names: what an error calls each row.

    Raises:
        DataError: not two-dimensional, no dimension, or a row that is zero or not finite.
    """
    if vectors.ndim != 2 or vectors.shape[1] == 0:
        raise DataError(f"vectors must be [rows, dimensions], found the shape {vectors.shape}")
    with np.errstate(over="ignore"):
        units = np.array(vectors, dtype=np.float32)
    for start in range(0, len(units), _BLOCK_ROWS):
        block = units[start : start + _BLOCK_ROWS]
        lengths = np.linalg.norm(block.astype(np.float64), axis=1)
        for row in np.flatnonzero(~np.isfinite(lengths) | (lengths == 0)).tolist():
            fault = "is zero" if lengths[row] == 0 else "is not finite"
            raise DataError(
                f"the vector of {names[start + row]} {fault}",
                hint="encode it again in bfloat16 or float32, and look at its text",
            )
        rescaled = np.abs(lengths - 1) > _UNIT_TOLERANCE
        block[rescaled] = block[rescaled] / lengths[rescaled, None]
    return units
