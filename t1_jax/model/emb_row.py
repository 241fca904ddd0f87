"""The initial row of a new `<emb_token>` in embedding table and head: the mean of other rows."""

from collections.abc import Collection
from functools import partial

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t1_jax.model.decoder import Decoder


@partial(jax.jit, donate_argnames="table", static_argnames="axis")
def fill_emb_row(
    table: Float[Array, "..."],
    trained: Bool[Array, " V"],
    emb_token_id: Int[Array, ""] | int,
    axis: int = 0,
) -> Float[Array, "..."]:
    """The table with the row of `<emb_token>` set to the mean of the trained rows.

    `table` is the embedding table (axis 0) or the kernel of an untied head (axis 1); it is donated.
    """
    is_emb = jnp.arange(table.shape[axis]) == emb_token_id
    mean = _mean_row(table, trained & ~is_emb, axis).astype(table.dtype)
    return jnp.where(_along(is_emb, table, axis), mean, table)


def init_emb_row(decoder: Decoder, token_ids: Collection[int], emb_token_id: int) -> None:
    """Initializes the row of `<emb_token>` to the mean of the rows of `token_ids`, in place.

    If an adapter trains the row, the adapter holds the difference and the base stays as it is.
    Call it inside `mesh_context.activate()`.
    """
    for table, row, axis in (
        (decoder.embed.table, decoder.embed.row, 0),
        *(() if decoder.head is None else ((decoder.head.kernel, decoder.head.row, 1),)),
    ):
        vocab = jnp.arange(table.shape[axis])
        averaged = jnp.isin(vocab, jnp.asarray(sorted(token_ids)))
        is_emb = vocab == emb_token_id
        mean, current = (_mean_row(table[...], rows, axis) for rows in (averaged, is_emb))
        delta = mean - current
        if row is not None:
            row.delta[...] = jax.device_put(jnp.squeeze(delta, axis), row.delta[...].sharding)
            continue
        changed = table[...] + jnp.where(_along(is_emb, table[...], axis), delta, 0)
        table[...] = jax.device_put(changed.astype(table.dtype), table[...].sharding)


def _mean_row(table: jax.Array, rows: Bool[Array, " V"], axis: int) -> Float[Array, "..."]:
    """Mean of these rows in float32, [1 D] or [D 1]; a sharded vocabulary is not gathered."""
    total = jnp.where(_along(rows, table, axis), table.astype(jnp.float32), 0)
    return total.sum(axis, keepdims=True) / rows.sum()


def _along(rows: Bool[Array, " V"], table: jax.Array, axis: int) -> Bool[Array, "..."]:
    """Rows as an array that broadcasts against the table."""
    return rows.reshape([-1 if dim == axis else 1 for dim in range(table.ndim)])
