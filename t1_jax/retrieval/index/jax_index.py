"""Exact search on JAX devices; rows are sharded over all devices of a mesh.

Rows are placed in descending order of their ids. `lax.top_k` prefers the lower position among equal
scores, within a shard and in the merge, so ties have trec_eval's order.

Shapes come from buckets: numbers of queries, results and exclusions are padded to powers of two.
All indexes of one size share compiled programs, so an index with new vectors compiles nothing.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jaxtyping import Array, Float, Float32, Int

from t1_jax.retrieval.index.embedding_table import EmbeddingTable, RowLists
from t1_jax.retrieval.index.protocol import Index, SearchResult
from t1_jax.retrieval.index.top_k import TopK

_SCORE_BYTES = 1 << 28
"""Bytes of scores on one device, which bounds the number of queries per call."""

_SMALLEST_BUCKET = 8


class JaxIndex(Index):
    """Exact search: a sharded matrix product and a distributed top-k."""

    kind: ClassVar[str] = "jax"

    def __init__(self, table: EmbeddingTable, *, mesh: Mesh | None = None) -> None:
        """Copies the vectors to the devices.

        Args:
            table: ids and vectors.
            mesh: devices; rows are sharded over all axes. None means all devices.
        """
        self.table = table
        self._mesh = mesh or jax.make_mesh((jax.device_count(),), ("rows",))
        self._row_at = np.argsort(table.tie_break_order)
        self._shard_rows = -(-len(table.ids) // self._mesh.size)
        self._shards = self._place_shards()

    def search(
        self, queries: Float[np.ndarray, "B E"], k: int, excluded: RowLists | None = None
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.normalize_queries(queries)
        excluded_rows = self._positions(self.table.pad_row_lists(excluded, len(units), "excluded"))
        empty = TopK(len(units), k, self.table.tie_break_order)
        result = SearchResult(scores=empty.scores, rows=empty.rows)
        k = result.rows.shape[1]
        padded_k = min(_bucket(k), self._shard_rows * self._mesh.size)
        for queries_slice, block, excluded_block in self._blocks(units, excluded_rows):
            scores, positions = _search(
                self._shards, block, excluded_block, len(self.ids), mesh=self._mesh, k=padded_k
            )
            width = min(k, padded_k)
            size = queries_slice.stop - queries_slice.start
            top_scores = np.asarray(scores)[:size, :width]
            rows = self._row_at[np.minimum(np.asarray(positions), len(self.ids) - 1)]
            rows = np.where(top_scores > -np.inf, rows[:size, :width], -1)
            result.scores[queries_slice, :width] = top_scores
            result.rows[queries_slice, :width] = rows
        return result

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """See `Index.rank_of`."""
        units = self.table.normalize_queries(queries)
        targets = self._positions(self.table.pad_row_lists(rows.tolist(), len(units), "rows"))
        excluded_rows = self._positions(self.table.pad_row_lists(excluded, len(units), "excluded"))
        ranks = np.full(rows.shape, -1, dtype=np.int64)
        for queries_slice, block, excluded_block, target_block in self._blocks(
            units, excluded_rows, targets
        ):
            block_ranks = _ranks(
                self._shards, block, excluded_block, target_block, len(self.ids), mesh=self._mesh
            )
            size = queries_slice.stop - queries_slice.start
            ranks[queries_slice] = np.asarray(block_ranks)[:size, : rows.shape[1]]
        return np.where(rows < 0, -1, ranks)

    def _place_shards(self) -> Float32[Array, "rows E"]:
        """The vectors in device order; zero rows pad the last shard."""
        shape = (self._shard_rows * self._mesh.size, self.table.width)

        def rows_of_shard(index: tuple[slice, ...] | None) -> Float32[np.ndarray, "rows E"]:
            start, stop, _ = (index[0] if index else slice(None)).indices(shape[0])
            shard = np.zeros((stop - start, shape[1]), dtype=np.float32)
            rows = self._row_at[start:stop]
            shard[: len(rows)] = self.table.take(rows)
            return shard

        sharding = jax.NamedSharding(self._mesh, jax.P(self._mesh.axis_names))
        return jax.make_array_from_callback(shape, sharding, rows_of_shard)

    def _positions(self, rows: Int[np.ndarray, "B X"]) -> Int[np.ndarray, "B X"]:
        """Positions of rows on the devices; −1 stays −1."""
        return np.where(rows < 0, -1, self.table.tie_break_order[rows]).astype(np.int32)

    def _blocks(
        self, units: Float32[np.ndarray, "B E"], *tables: Int[np.ndarray, "B _"]
    ) -> Iterator[tuple]:
        """Yields slices of the queries with their vectors and tables, padded to bucket sizes."""
        largest = max(1, _SCORE_BYTES // (4 * self._shard_rows))
        largest = 1 << (largest.bit_length() - 1)
        for start in range(0, len(units), largest):
            block = slice(start, min(start + largest, len(units)))
            size = min(_bucket(block.stop - block.start), largest)
            yield (
                block,
                _padded(units[block], (size, units.shape[1]), 0),
                *(_padded(rows[block], (size, _bucket(rows.shape[1])), -1) for rows in tables),
            )


@partial(jax.jit, static_argnames=("mesh", "k"))
def _search(
    shards: Float32[Array, "rows E"],
    queries: Float32[Array, "B E"],
    excluded: Int[Array, "B X"],
    count: Int[Array, ""],
    *,
    mesh: Mesh,
    k: int,
) -> tuple[Float32[Array, "B k"], Int[Array, "B k"]]:
    """Scores and positions of the top `k`: top k of each shard, all-gathered, top k again."""

    def on_shard(
        shard: Float32[Array, "n E"],
        queries: Float32[Array, "B E"],
        excluded: Int[Array, "B X"],
        count: Int[Array, ""],
    ) -> tuple[Float32[Array, "B k"], Int[Array, "B k"]]:
        scores, first = _scores(shard, queries, mesh)
        scores = _mask(scores, first, excluded, count)
        best, at = jax.lax.top_k(scores, min(k, shard.shape[0]))
        best, positions = (
            jax.lax.all_gather(x, mesh.axis_names, axis=1, tiled=True) for x in (best, first + at)
        )
        best, at = jax.lax.top_k(best, k)
        return best, jnp.take_along_axis(positions, at, axis=1)

    return _over_shards(on_shard, mesh, n_replicated=3)(shards, queries, excluded, count)


@partial(jax.jit, static_argnames="mesh")
def _ranks(
    shards: Float32[Array, "rows E"],
    queries: Float32[Array, "B E"],
    excluded: Int[Array, "B X"],
    targets: Int[Array, "B R"],
    count: Int[Array, ""],
    *,
    mesh: Mesh,
) -> Int[Array, "B R"]:
    """1 + the number of other positions that score at least as high as each target."""

    def on_shard(
        shard: Float32[Array, "n E"],
        queries: Float32[Array, "B E"],
        excluded: Int[Array, "B X"],
        targets: Int[Array, "B R"],
        count: Int[Array, ""],
    ) -> Int[Array, "B R"]:
        scores, first = _scores(shard, queries, mesh)
        local = targets - first
        is_local = (local >= 0) & (local < shard.shape[0])
        local = jnp.where(is_local, local, 0)
        target_scores = jax.lax.psum(
            jnp.where(is_local, jnp.take_along_axis(scores, local, axis=1), 0), mesh.axis_names
        )
        scores = _mask(scores, first, excluded, count)
        at_least = jax.vmap(lambda score: (scores >= score[:, None]).sum(1), 1, 1)(target_scores)
        itself = is_local & (jnp.take_along_axis(scores, local, axis=1) >= target_scores)
        return 1 + jax.lax.psum(at_least - itself, mesh.axis_names)

    return _over_shards(on_shard, mesh, n_replicated=4)(shards, queries, excluded, targets, count)


def _over_shards(
    function: Callable[..., Any], mesh: Mesh, *, n_replicated: int
) -> Callable[..., Any]:
    """`shard_map` of `function`; its results are equal on all shards (unchecked, see check_vma)."""
    in_specs = (jax.P(mesh.axis_names), *[jax.P()] * n_replicated)
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=jax.P(), check_vma=False)


def _scores(
    shard: Float32[Array, "n E"], queries: Float32[Array, "B E"], mesh: Mesh
) -> tuple[Float32[Array, "B n"], Int[Array, ""]]:
    """Cosine similarities with the rows of this shard, and the position of its first row."""
    first = jax.lax.axis_index(mesh.axis_names) * shard.shape[0]
    return jnp.matmul(queries, shard.T, precision="highest"), first


def _mask(
    scores: Float32[Array, "B n"],
    first: Int[Array, ""],
    excluded: Int[Array, "B X"],
    count: Int[Array, ""],
) -> Float32[Array, "B n"]:
    """The scores with −inf for excluded rows and for the padding of the last shard."""
    rows = scores.shape[1]
    local = excluded - first
    local = jnp.where((local >= 0) & (excluded >= 0), local, rows)
    queries = jnp.arange(scores.shape[0])[:, None]
    scores = scores.at[queries, local].set(-jnp.inf, mode="drop")
    return jnp.where(first + jnp.arange(rows) < count, scores, -jnp.inf)


def _bucket(size: int) -> int:
    """The next power of two, at least 8; 0 stays 0."""
    return 0 if size == 0 else max(_SMALLEST_BUCKET, 1 << (size - 1).bit_length())


def _padded(array: np.ndarray, shape: tuple[int, ...], value: int) -> np.ndarray:
    padded = np.full(shape, value, dtype=array.dtype)
    padded[tuple(slice(0, size) for size in array.shape)] = array
    return padded
