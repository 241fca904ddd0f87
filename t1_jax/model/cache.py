"""Key/value caches for decoding: one prefix shared by the thoughts of a prompt, one suffix each.

Keys are [.. K S H] and values [.. K H S], slots last, as `attend_cache` wants them. Where layers
are scanned the leaves are stacked on a leading Y axis; where they are unrolled the caches are
tuples of layers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int


class LayerCache(NamedTuple):
    """Keys and values of one layer, or of all layers stacked."""

    keys: jax.Array
    values: jax.Array


class PrefixCache(NamedTuple):
    """What the prompts left behind; read only.

    Attributes:
        layers: keys [P K S H] and values [P K H S] per layer.
        lengths: tokens of each prompt; later slots hold padding.
    """

    layers: LayerCache | tuple[LayerCache, ...]
    lengths: Int[Array, " P"]


class SuffixCache(NamedTuple):
    """What the thoughts add, written at one slot for all rows at once.

    Row (p, g) uses the slots from `starts[p]` to the slot being written; rows that joined the
    batch later start later.

    Attributes:
        layers: keys [P G K S H] and values [P G K H S] per layer.
        starts: the first slot of each prompt's thoughts.
    """

    layers: LayerCache | tuple[LayerCache, ...]
    starts: Int[Array, " P"]


def as_cache(k: Float[Array, "B L K H"], v: Float[Array, "B L K H"]) -> LayerCache:
    """Keys and values of whole sequences in the cache's layout."""
    return LayerCache(k.swapaxes(1, 2), v.transpose(0, 2, 3, 1))


def write_slot(
    cache: LayerCache,
    k: Float[Array, "P G K H"],
    v: Float[Array, "P G K H"],
    slot: Int[Array, ""],
) -> LayerCache:
    """Puts new keys and values at `slot` of every row; in place where the cache is a loop carry."""
    return LayerCache(
        jax.lax.dynamic_update_slice_in_dim(cache.keys, k[:, :, :, None], slot, axis=3),
        jax.lax.dynamic_update_slice_in_dim(cache.values, v[..., None], slot, axis=4),
    )


def prefix_seen(
    prefix_lengths: Int[Array, " P"],
    size: int,
    positions: Int[Array, "P G"],
    window: int | jax.Array,
) -> jax.Array:
    """Which of `size` prefix slots the token at `positions` may read: bool [P G S]."""
    slots = jnp.arange(size)
    seen = slots < prefix_lengths[:, None, None]
    return seen & _within(positions[..., None] - slots, window)


def suffix_seen(
    starts: Int[Array, " P"], size: int, slot: Int[Array, ""], window: int | jax.Array
) -> jax.Array:
    """Which of `size` suffix slots the token written at `slot` may read: bool [P 1 S]."""
    slots = jnp.arange(size)
    seen = (slots >= starts[:, None, None]) & (slots <= slot)
    return seen & _within(slot - slots, window)


def _within(distance: jax.Array, window: int | jax.Array) -> jax.Array:
    """True where a token that lies `distance` back is inside the window (0: no window)."""
    return (distance < window) | (jnp.asarray(window) == 0)
