"""Attention of whole sequences in blocks of queries: the reference, which runs on every device."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.model.product import product

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""A score no real score comes near, finite so that a row with nothing to see yields no NaN."""

Window = int | Int[Array, ""]
"""Tokens a token sees, itself included; 0 sees all. An array where layers of one scan differ."""

_GROUPS = 4


def blockwise_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    window: Window,
    segment_ids: Int[Array, "B L"] | None,
    block: int,
) -> Float[Array, "B L N H"]:
    """Causal attention, scores in float32, of at most `block` queries at a time.

    The row is cut into `_GROUPS` groups of blocks. A group reads the keys up to its own end, so
    that five eighths of the square of scores are computed, and loops over its blocks, so that one
    block's scores are in memory; the backward pass computes them again. (Written out block by
    block, XLA computes less but keeps the scores of all blocks at once.)
    """
    rows, length, _, head_dim = q.shape
    # Heads before positions: the layout in which every back end's matrix products are fastest.
    q_bkjlh = q.reshape(rows, length, k.shape[2], -1, head_dim).transpose(0, 2, 3, 1, 4)
    k_bklh, v_bklh = k.swapaxes(1, 2), v.swapaxes(1, 2)
    whole = length // block
    step = max(-(-whole // _GROUPS), 1) * block
    bounds = [(at, min(at + step, whole * block)) for at in range(0, whole * block, step)]
    if length % block:
        bounds.append((whole * block, length))
    out = [
        _group(q_bkjlh, k_bklh, v_bklh, window, segment_ids, begin, end, min(block, end - begin))
        for begin, end in bounds
    ]
    out_bkjlh = out[0] if len(out) == 1 else jnp.concatenate(out, axis=3)
    return out_bkjlh.transpose(0, 3, 1, 2, 4).reshape(q.shape)


def rowwise_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    window: Window,
    segment_ids: Int[Array, "B L"] | None,
    block: int,
) -> Float[Array, "B L N H"]:
    """`blockwise_attention` of one row after the other: less memory, less in parallel."""

    def one(row: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        q, k, v, segments = jax.tree.map(lambda x: x[None], row)
        return blockwise_attention(q, k, v, window, segments, block)[0]

    return jax.lax.map(one, (q, k, v, segment_ids))


def _group(
    q: Float[Array, "B K J L H"],
    k: Float[Array, "B K L H"],
    v: Float[Array, "B K L H"],
    window: Window,
    segment_ids: Int[Array, "B L"] | None,
    begin: int,
    end: int,
    block: int,
) -> Float[Array, "B K J M H"]:
    """The M queries from `begin` to `end`, a multiple of `block` of them, one block at a time."""
    reach = block + window - 1 if isinstance(window, int) and window else end
    span = min(end, reach)

    def one_block(start: Int[Array, ""]) -> Float[Array, "B K J M H"]:
        first = jnp.maximum(start + block - span, 0)

        def mine(x: jax.Array, axis: int) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, start, block, axis)

        def theirs(x: jax.Array, axis: int) -> jax.Array:
            return jax.lax.dynamic_slice_in_dim(x, first, span, axis)

        distance = (start + jnp.arange(block))[:, None] - (first + jnp.arange(span))
        seen = ((distance >= 0) & ((distance < window) | (jnp.asarray(window) == 0)))[None]
        if segment_ids is not None:
            seen &= mine(segment_ids, 1)[:, :, None] == theirs(segment_ids, 1)[:, None, :]
        scores = product("bkjlh,bksh->bkjls", mine(q, 3), theirs(k, 2))
        scores = jnp.where(seen[:, None, None], scores * q.shape[-1] ** -0.5, MASKED)
        # The sum is divided out of [L, H] after the product rather than of [L, S] before it.
        weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = product("bkjls,bksh->bkjlh", weights, theirs(v, 2), dtype=v.dtype)
        return (out / total).astype(q.dtype)

    if block == q.shape[3]:
        return one_block(jnp.int32(0))
    out = jax.lax.map(jax.checkpoint(one_block), jnp.arange(begin, end, block))
    return jnp.moveaxis(out, 0, 3).reshape(*q.shape[:3], end - begin, q.shape[4])
