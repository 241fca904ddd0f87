"""Attention of whole sequences in blocks of queries: the reference, which runs on every device."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from t1_jax.model.einsum import einsum_fp32_accum

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
    *,
    shared_prefix: bool = False,
) -> Float[Array, "B L N H"]:
    """Causal attention, scores in float32, of at most `block` queries at a time.

    The row is cut into `_GROUPS` groups of blocks. A group reads the keys up to its own end, so
    that five eighths of the square of scores are computed, and loops over its blocks, so that one
    block's scores are in memory; the backward pass computes them again. (Written out block by
    block, XLA computes less but keeps the scores of all blocks at once.)

    With `shared_prefix` the tokens of segment 0 are seen by all segments of their row.
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
    rule = _Seen(window, segment_ids, shared_prefix)
    out = [
        _group(q_bkjlh, k_bklh, v_bklh, rule, begin, end, min(block, end - begin))
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
    *,
    shared_prefix: bool = False,
) -> Float[Array, "B L N H"]:
    """`blockwise_attention` of one row after the other: less memory, less in parallel."""

    def one(row: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        q, k, v, segments = jax.tree.map(lambda x: x[None], row)
        out = blockwise_attention(q, k, v, window, segments, block, shared_prefix=shared_prefix)
        return out[0]

    return jax.lax.map(one, (q, k, v, segment_ids))


class _Seen(NamedTuple):
    """Which keys a query sees, among those at or before its slot.

    Attributes:
        window: how far back.
        segment_ids: of packed rows.
        shared_prefix: whether segment 0 is seen by every segment.
    """

    window: Window
    segment_ids: Int[Array, "B L"] | None
    shared_prefix: bool

    def mask(
        self, start: Int[Array, ""], queries: int, first: Int[Array, ""], keys: int
    ) -> Bool[Array, "#B M S"]:
        """For `queries` slots from `start` and `keys` slots from `first`."""
        distance = (start + jnp.arange(queries))[:, None] - (first + jnp.arange(keys))
        near = (distance < self.window) | (jnp.asarray(self.window) == 0)
        seen = ((distance >= 0) & near)[None]
        if self.segment_ids is None:
            return seen
        mine = jax.lax.dynamic_slice_in_dim(self.segment_ids, start, queries, 1)[:, :, None]
        theirs = jax.lax.dynamic_slice_in_dim(self.segment_ids, first, keys, 1)[:, None, :]
        known = mine == theirs
        return seen & (known | (theirs == 0) if self.shared_prefix else known)


def _group(
    q: Float[Array, "B K J L H"],
    k: Float[Array, "B K L H"],
    v: Float[Array, "B K L H"],
    rule: _Seen,
    begin: int,
    end: int,
    block: int,
) -> Float[Array, "B K J M H"]:
    """The M queries from `begin` to `end`, a multiple of `block` of them, one block at a time."""
    window = rule.window
    reach = block + window - 1 if isinstance(window, int) and window else end
    span = min(end, reach)

    def one_block(start: Int[Array, ""]) -> Float[Array, "B K J M H"]:
        first = jnp.maximum(start + block - span, 0)

        q_bkjmh = jax.lax.dynamic_slice_in_dim(q, start, block, 3)
        k_bksh, v_bksh = (jax.lax.dynamic_slice_in_dim(x, first, span, 2) for x in (k, v))
        seen = rule.mask(start, block, first, span)
        scores = einsum_fp32_accum("bkjmh,bksh->bkjms", q_bkjmh, k_bksh)
        scores = jnp.where(seen[:, None, None], scores * q.shape[-1] ** -0.5, MASKED)
        # The sum is divided out of [L, H] after the product rather than of [L, S] before it.
        weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = einsum_fp32_accum("bkjms,bksh->bkjmh", weights, v_bksh, dtype=v.dtype)
        return (out / total).astype(q.dtype)

    if block == q.shape[3]:
        return one_block(jnp.int32(0))
    out = jax.lax.map(jax.checkpoint(one_block), jnp.arange(begin, end, block))
    return jnp.moveaxis(out, 0, 3).reshape(*q.shape[:3], end - begin, q.shape[4])
