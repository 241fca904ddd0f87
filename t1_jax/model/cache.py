"""Key/value caches for decoding: one prefix shared by the thoughts of a prompt, one suffix each.

Both hold, for every layer, keys and values with heads before slots. Where layers are scanned the
leaves are stacked on a leading Y axis; where they are unrolled the caches are tuples of layers.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

LayerCache = tuple[jax.Array, jax.Array]
"""Keys and values of one layer, or of all layers stacked."""


class PrefixCache(NamedTuple):
    """What the prompts left behind; read only.

    Attributes:
        layers: keys and values [P K S H] per layer.
        lengths: tokens of each prompt; later slots hold padding.
    """

    layers: LayerCache | tuple[LayerCache, ...]
    lengths: Int[Array, " P"]


class SuffixCache(NamedTuple):
    """What the thoughts add, written at one slot for all rows at once.

    Row (p, g) uses the slots from `starts[p]` to the slot being written; rows that joined the
    batch later start later.

    Attributes:
        layers: keys and values [P G K S H] per layer.
        starts: the first slot of each prompt's thoughts.
    """

    layers: LayerCache | tuple[LayerCache, ...]
    starts: Int[Array, " P"]


def write_slot(
    cache: Float[Array, "P G K S H"], new: Float[Array, "P G K H"], slot: Int[Array, ""]
) -> Float[Array, "P G K S H"]:
    """Puts `new` at `slot` of every row; in place where the cache is donated or a loop carry."""
    return jax.lax.dynamic_update_slice_in_dim(cache, new[:, :, :, None], slot, axis=3)


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
