"""Exact search on JAX devices: rows spread over every device of a mesh.

Rows lie on the devices in descending order of their ids. `lax.top_k` prefers the lower position
among equal scores, within a shard and in the merge, so ties come out as trec_eval orders them.

Shapes come from buckets: queries, results and exclusions are each padded to a power of two, and
programs are shared by all indexes of one size, so a refreshed index compiles nothing.
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
from t1_jax.retrieval.index.numpy_index import empty_result
from t1_jax.retrieval.index.protocol import Index, SearchResult

_SCORE_BYTES = 1 << 28
"""Scores held by one device at a time, which bounds how many queries one call searches."""

_SMALLEST_BUCKET = 8


class JaxIndex(Index):
    """Every query against every row, on all devices at once."""

    kind: ClassVar[str] = "jax"

    def __init__(self, table: EmbeddingTable, *, mesh: Mesh | None = None) -> None:
        """Places the vectors.

        Args:
            table: ids and vectors.
            mesh: rows are spread over all its axes; without one, over all devices.
        """
        self.table = table
        self._mesh = mesh or jax.make_mesh((jax.device_count(),), ("rows",))
        self._row_at = np.argsort(table.tie_break_order)
        self._shard_rows = -(-len(table.ids) // self._mesh.size)
        self._shards = self._place_shards()

    def search(
        self,
        queries: Float[np.ndarray, "B E"],
        k: int,
        excluded: RowLists | None = None,
    ) -> SearchResult:
        """See `Index.search`."""
        units = self.table.checked_queries(queries)
        excluded_rows = self._positions(self.table.checked_rows(excluded, len(units), "excluded"))
        result = empty_result(len(units), k, len(self.ids))
        k = result.rows.shape[1]
        wanted = min(_bucket(k), self._shard_rows * self._mesh.size)
        for part, block, left_out_block in self._blocks(units, excluded_rows):
            scores, positions = _search(
                self._shards, block, left_out_block, len(self.ids), mesh=self._mesh, k=wanted
            )
            width = min(k, wanted)
            size = part.stop - part.start
            found = np.asarray(scores)[:size, :width]
            rows = self._row_at[np.minimum(np.asarray(positions), len(self.ids) - 1)]
            result.scores[part, :width] = found
            result.rows[part, :width] = np.where(found > -np.inf, rows[:size, :width], -1)
        return result

    def rank_of(
        self,
        queries: Float[np.ndarray, "B E"],
        rows: Int[np.ndarray, "B R"],
        excluded: RowLists | None = None,
    ) -> Int[np.ndarray, "B R"]:
        """See `Index.rank_of`."""
        units = self.table.checked_queries(queries)
        wanted = self._positions(self.table.checked_rows(rows.tolist(), len(units), "rows"))
        excluded_rows = self._positions(self.table.checked_rows(excluded, len(units), "excluded"))
        ranks = np.full(rows.shape, -1, dtype=np.int64)
        for part, block, left_out_block, wanted_block in self._blocks(units, excluded_rows, wanted):
            found = _ranks(
                self._shards, block, left_out_block, wanted_block, len(self.ids), mesh=self._mesh
            )
            ranks[part] = np.asarray(found)[: part.stop - part.start, : rows.shape[1]]
        return np.where(rows < 0, -1, ranks)

    def _place_shards(self) -> Float32[Array, "rows E"]:
        """The vectors in device order, zero rows at the end so that every shard has as many."""
        shape = (self._shard_rows * self._mesh.size, self.table.width)

        def rows_of_shard(index: tuple[slice, ...] | None) -> Float32[np.ndarray, "rows E"]:
            start, stop, _ = (index[0] if index else slice(None)).indices(shape[0])
            shard = np.zeros((stop - start, shape[1]), dtype=np.float32)
            real = self._row_at[start:stop]
            shard[: len(real)] = self.table.vectors[real]
            return shard

        sharding = jax.NamedSharding(self._mesh, jax.P(self._mesh.axis_names))
        return jax.make_array_from_callback(shape, sharding, rows_of_shard)

    def _positions(self, rows: Int[np.ndarray, "B X"]) -> Int[np.ndarray, "B X"]:
        """Device positions of rows; −1 stays −1."""
        return np.where(rows < 0, -1, self.table.tie_break_order[rows]).astype(np.int32)

    def _blocks(
        self, units: Float32[np.ndarray, "B E"], *tables: Int[np.ndarray, "B _"]
    ) -> Iterator[tuple]:
        """Yields the queries of one call, and for it every table padded to its buckets."""
        largest = max(1, _SCORE_BYTES // (4 * self._shard_rows))
        largest = 1 << (largest.bit_length() - 1)
        for start in range(0, len(units), largest):
            part = slice(start, min(start + largest, len(units)))
            size = min(_bucket(part.stop - part.start), largest)
            yield (
                part,
                _padded(units[part], (size, units.shape[1]), 0),
                *(_padded(rows[part], (size, _bucket(rows.shape[1])), -1) for rows in tables),
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
    """Scores and positions of the best `k`: the best of each shard, gathered, and their best."""

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
    wanted: Int[Array, "B R"],
    count: Int[Array, ""],
    *,
    mesh: Mesh,
) -> Int[Array, "B R"]:
    """1 + the number of other positions that score at least as high as each wanted one."""

    def on_shard(
        shard: Float32[Array, "n E"],
        queries: Float32[Array, "B E"],
        excluded: Int[Array, "B X"],
        wanted: Int[Array, "B R"],
        count: Int[Array, ""],
    ) -> Int[Array, "B R"]:
        scores, first = _scores(shard, queries, mesh)
        local = wanted - first
        here = (local >= 0) & (local < shard.shape[0])
        local = jnp.where(here, local, 0)
        own = jax.lax.psum(
            jnp.where(here, jnp.take_along_axis(scores, local, axis=1), 0), mesh.axis_names
        )
        scores = _mask(scores, first, excluded, count)
        at_least = jax.vmap(lambda least: (scores >= least[:, None]).sum(1), 1, 1)(own)
        itself = here & (jnp.take_along_axis(scores, local, axis=1) >= own)
        return 1 + jax.lax.psum(at_least - itself, mesh.axis_names)

    return _over_shards(on_shard, mesh, n_replicated=4)(shards, queries, excluded, wanted, count)


def _over_shards(
    function: Callable[..., Any], mesh: Mesh, *, n_replicated: int
) -> Callable[..., Any]:
    """`function` on each shard; its results are equal on all, which gathering cannot prove."""
    in_specs = (jax.P(mesh.axis_names), *[jax.P()] * n_replicated)
    return jax.shard_map(function, mesh=mesh, in_specs=in_specs, out_specs=jax.P(), check_vma=False)


def _scores(
    shard: Float32[Array, "n E"], queries: Float32[Array, "B E"], mesh: Mesh
) -> tuple[Float32[Array, "B n"], Int[Array, ""]]:
    """Cosines with the rows of this shard, and the position of the first of them."""
    first = jax.lax.axis_index(mesh.axis_names) * shard.shape[0]
    return jnp.matmul(queries, shard.T, precision="highest"), first


def _mask(
    scores: Float32[Array, "B n"],
    first: Int[Array, ""],
    excluded: Int[Array, "B X"],
    count: Int[Array, ""],
) -> Float32[Array, "B n"]:
    """−inf for excluded rows and for the rows that only fill up the last shard."""
    rows = scores.shape[1]
    local = excluded - first
    local = jnp.where((local >= 0) & (excluded >= 0), local, rows)
    queries = jnp.arange(scores.shape[0])[:, None]
    scores = scores.at[queries, local].set(-jnp.inf, mode="drop")
    return jnp.where(first + jnp.arange(rows) < count, scores, -jnp.inf)


def _bucket(size: int) -> int:
    """The next power of two, at least 8; nothing stays nothing."""
    return 0 if size == 0 else max(_SMALLEST_BUCKET, 1 << (size - 1).bit_length())


def _padded(array: np.ndarray, shape: tuple[int, ...], value: int) -> np.ndarray:
    padded = np.full(shape, value, dtype=array.dtype)
    padded[tuple(slice(0, size) for size in array.shape)] = array
    return padded
