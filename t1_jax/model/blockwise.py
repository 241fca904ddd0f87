"""Attention of whole sequences in blocks of queries: the `xla` back end, for every device."""

from dataclasses import replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.model.mask import MASKED, AttentionMask

_GROUPS = 4


def blockwise_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    mask: AttentionMask,
    block: int,
) -> Float[Array, "B L N H"]:
    """Masked attention of at most `block` queries at a time, with scores in float32.

    The row is cut into `_GROUPS` groups of blocks. A group reads the keys up to its own end, so
    that five eighths of the L x L scores are computed, and loops over its blocks, so that the
    scores of one block are in memory; the backward pass recomputes them. (If the loop over blocks
    were unrolled, XLA would compute less but keep the scores of all blocks at once.)
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
        _group(q_bkjlh, k_bklh, v_bklh, mask, begin, end, min(block, end - begin))
        for begin, end in bounds
    ]
    out_bkjlh = out[0] if len(out) == 1 else jnp.concatenate(out, axis=3)
    return out_bkjlh.transpose(0, 3, 1, 2, 4).reshape(q.shape)


def rowwise_attention(
    q: Float[Array, "B L N H"],
    k: Float[Array, "B L K H"],
    v: Float[Array, "B L K H"],
    mask: AttentionMask,
    block: int,
) -> Float[Array, "B L N H"]:
    """`blockwise_attention` of one row after the other: less memory, less parallelism."""

    def attend_row(row: tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]) -> jax.Array:
        q, k, v, segment_ids = jax.tree.map(lambda x: x[None], row)
        return blockwise_attention(q, k, v, replace(mask, segment_ids=segment_ids), block)[0]

    return jax.lax.map(attend_row, (q, k, v, mask.segment_ids))


def _group(
    q: Float[Array, "B K J L H"],
    k: Float[Array, "B K L H"],
    v: Float[Array, "B K L H"],
    mask: AttentionMask,
    begin: int,
    end: int,
    block: int,
) -> Float[Array, "B K J M H"]:
    """Attention of the M = `end` - `begin` queries, a multiple of `block`, one block at a time."""
    window = mask.window
    farthest = block + window - 1 if isinstance(window, int) and window else end
    span = min(end, farthest)

    def one_block(start: Int[Array, ""]) -> Float[Array, "B K J M H"]:
        first = jnp.maximum(start + block - span, 0)

        q_bkjmh = jax.lax.dynamic_slice_in_dim(q, start, block, 3)
        k_bksh, v_bksh = (jax.lax.dynamic_slice_in_dim(x, first, span, 2) for x in (k, v))
        visible = mask.block(start, block, first, span)
        scores = einsum_fp32_accum("bkjmh,bksh->bkjms", q_bkjmh, k_bksh)
        scores = jnp.where(visible[:, None, None], scores * q.shape[-1] ** -0.5, MASKED)
        # The sum is divided out of [L, H] after the product rather than of [L, S] before it.
        weights = jnp.exp(scores - jax.lax.stop_gradient(jnp.max(scores, -1, keepdims=True)))
        total = jnp.sum(weights, axis=-1, keepdims=True)
        out = einsum_fp32_accum("bkjms,bksh->bkjmh", weights, v_bksh, dtype=v.dtype)
        return (out / total).astype(q.dtype)

    if block == q.shape[3]:
        return one_block(jnp.int32(0))
    out = jax.lax.map(jax.checkpoint(one_block), jnp.arange(begin, end, block))
    return jnp.moveaxis(out, 0, 3).reshape(*q.shape[:3], end - begin, q.shape[4])
