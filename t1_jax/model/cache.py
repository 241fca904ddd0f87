"""Key/value caches for decoding, and attention to them.

The thoughts of a prompt share its prefix cache, which is read only; each thought has a suffix cache
of its own. Keys are [.. K S H] and values [.. K H S], slots last, as `attend_cache` reads them.
"""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.model.mask import MASKED, Window, within_window


class KVCache(NamedTuple):
    """Keys and values of one layer, or of all layers stacked on a leading Y axis."""

    keys: jax.Array
    values: jax.Array


Layers = KVCache | tuple[KVCache, ...]
"""The caches of all layers: stacked where layers are scanned, a tuple where they are unstacked."""


class PrefixCache(NamedTuple):
    """Keys and values of the prompts; read only.

    Attributes:
        layers: keys [P K S H] and values [P K H S], of one layer or of all.
        lengths: tokens of each prompt; later slots hold padding.
    """

    layers: Layers
    lengths: Int[Array, " P"]


class SuffixCache(NamedTuple):
    """Keys and values of the thoughts; all rows are written at one slot, or each at its prompt's.

    Row (p, g) uses the slots from `starts[p]` to the slot being written; prompts that joined the
    batch later start later. Where every prompt has a slot of its own, all start at 0.

    Attributes:
        layers: keys [P G K S H] and values [P G K H S], of one layer or of all.
        starts: the first slot of each prompt's thoughts.
    """

    layers: Layers
    starts: Int[Array, " P"]


def as_cache(k: Float[Array, "B L K H"], v: Float[Array, "B L K H"]) -> KVCache:
    """Keys and values of whole sequences in the cache's layout."""
    return KVCache(k.swapaxes(1, 2), v.transpose(0, 2, 3, 1))


def write_slot(
    cache: KVCache,
    k: Float[Array, "P G K H"],
    v: Float[Array, "P G K H"],
    slot: Int[Array, "*P"],
) -> KVCache:
    """Writes keys and values at `slot` of every row; in place where the cache is a loop carry.

    With one slot for each prompt, [P], a write beyond the cache is dropped.
    """
    if slot.ndim == 1:
        rows = jnp.arange(k.shape[0])
        return KVCache(
            cache.keys.at[rows, :, :, slot].set(k, mode="drop", unique_indices=True),
            cache.values.at[rows, :, :, :, slot].set(v, mode="drop", unique_indices=True),
        )
    return KVCache(
        jax.lax.dynamic_update_slice_in_dim(cache.keys, k[:, :, :, None], slot, axis=3),
        jax.lax.dynamic_update_slice_in_dim(cache.values, v[..., None], slot, axis=4),
    )


def prefix_mask(
    lengths: Int[Array, " P"], size: int, positions: Int[Array, "P G"], window: Window
) -> jax.Array:
    """Which of `size` prefix slots the tokens at `positions` attend to: bool [P G S]."""
    slots = jnp.arange(size)
    mask = slots < lengths[:, None, None]
    return mask & within_window(positions[..., None] - slots, window)


def suffix_mask(
    starts: Int[Array, " P"], size: int, slot: Int[Array, "*P"], window: Window
) -> jax.Array:
    """Which of `size` suffix slots the token written at `slot` attends to: bool [P 1 S]."""
    slots = jnp.arange(size)
    slot = jnp.broadcast_to(slot, starts.shape)[:, None, None]
    mask = (slots >= starts[:, None, None]) & (slots <= slot)
    return mask & within_window(slot - slots, window)


def attend_caches(
    q: Float[Array, "P G N H"],
    positions: Int[Array, "P G"],
    slot: Int[Array, "*P"],
    prefix: PrefixCache,
    suffix: SuffixCache,
    window: Window,
) -> Float[Array, "P G N H"]:
    """Attention of one new token per thought to its prompt and to its own earlier tokens.

    The G thoughts take the place of a sequence's positions, so that one matrix product reads the
    shared prefix for all of them. The caches are those of one layer, and the keys and values of
    the new tokens, at `positions` in prompt + thought, are in the suffix already, at `slot`.
    """
    prompts, thoughts, heads, head_dim = q.shape
    prefix_kv, suffix_kv = prefix.layers, suffix.layers
    assert isinstance(prefix_kv, KVCache)
    assert isinstance(suffix_kv, KVCache)
    mask = prefix_mask(prefix.lengths, prefix_kv.keys.shape[2], positions, window)
    to_prefix = attend_cache(q, *prefix_kv, mask)
    rows = prompts * thoughts
    mask = suffix_mask(suffix.starts, suffix_kv.keys.shape[3], slot, window)
    mask = jnp.broadcast_to(mask, (prompts, thoughts, mask.shape[-1]))
    keys, values = (cache.reshape(rows, *cache.shape[2:]) for cache in suffix_kv)
    out, log_sum = attend_cache(
        q.reshape(rows, 1, heads, head_dim), keys, values, mask.reshape(rows, 1, -1)
    )
    to_suffix = out.reshape(q.shape), log_sum.reshape(q.shape[:3])
    return merge_attention(to_prefix, to_suffix).astype(q.dtype)


def attend_cache(
    q: Float[Array, "P Q N H"],
    k: Float[Array, "P K S H"],
    v: Float[Array, "P K H S"],
    mask: jax.Array,
) -> tuple[Float[Array, "P Q N H"], Float[Array, "P Q N"]]:
    """Attention of Q queries per row to the slots that `mask` (bool [P Q S]) lets each attend to.

    With the slots of `v` last, both products run along the last axis of both operands, the one form
    that XLA's CPU back end computes for bf16 in all shapes.

    Returns:
        The output in float32, and the log-sum-exp of the scores, which merging two caches needs.
    """
    prompts, queries, heads, head_dim = q.shape
    kv_heads = k.shape[1]
    grouped = q.reshape(prompts, queries, kv_heads, heads // kv_heads, head_dim)
    grouped = grouped.transpose(0, 2, 1, 3, 4)
    scores = jnp.einsum("pkqjh,pksh->pkqjs", grouped, k, preferred_element_type=jnp.float32)
    scores = jnp.where(mask[:, None, :, None], scores / math.sqrt(head_dim), MASKED)
    highest = jnp.max(scores, axis=-1, keepdims=True)
    weights = jnp.exp(scores - highest)
    total = jnp.sum(weights, axis=-1, keepdims=True)
    weights = weights.astype(v.dtype)
    out = jnp.einsum("pkqjs,pkhs->pkqjh", weights, v, preferred_element_type=jnp.float32) / total
    log_sum = (highest + jnp.log(total))[..., 0]
    return (
        out.transpose(0, 2, 1, 3, 4).reshape(prompts, queries, heads, head_dim),
        log_sum.transpose(0, 2, 1, 3).reshape(prompts, queries, heads),
    )


def merge_attention(
    first: tuple[Float[Array, "*R N H"], Float[Array, "*R N"]],
    second: tuple[Float[Array, "*R N H"], Float[Array, "*R N"]],
) -> Float[Array, "*R N H"]:
    """Attention to the union of two caches, from the outputs and log-sum-exps of each."""
    (out_a, log_a), (out_b, log_b) = first, second
    weight = jax.nn.sigmoid(log_a - log_b)[..., None]
    return weight * out_a + (1 - weight) * out_b
