"""Which tokens a token attends to: causal order, sliding window, packed segments, shared prefix."""

from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

MASKED = -0.7 * float(jnp.finfo(jnp.float32).max)
"""The score of a masked key; finite, so that a row with all keys masked yields no NaN."""

Window = int | Int[Array, ""]
"""Tokens a token attends to, itself included; 0: all. An array where layers of a scan differ."""


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AttentionMask:
    """A causal mask and its restrictions; it becomes an array one block of queries at a time.

    Rows are right-padded, so causal order alone hides padding from every real token.

    Attributes:
        window: sliding window in tokens. `Decoder` sets it layer by layer from its config.
        segment_ids: the text that each token of a packed row belongs to; -1 in padding. Tokens
            attend to their own segment only. None: one text per row.
        shared_prefix: every segment also attends to segment 0, which comes first in its row, as if
            each had a row of its own behind a copy of it. So the thoughts of one prompt share its
            computation; their positions continue those of the prefix.
    """

    window: Window = 0
    segment_ids: Int[Array, "B L"] | None = None
    shared_prefix: bool = field(default=False, metadata={"static": True})

    def with_window(self, window: Window) -> "AttentionMask":
        """This mask with another sliding window."""
        return replace(self, window=window)

    def block(
        self, start: Int[Array, ""], queries: int, first: Int[Array, ""], keys: int
    ) -> Bool[Array, "#B M S"]:
        """The mask of `queries` slots from `start` on against `keys` slots from `first` on."""
        distance = (start + jnp.arange(queries))[:, None] - (first + jnp.arange(keys))
        near = within_window(distance, self.window)
        mask = ((distance >= 0) & near)[None]
        if self.segment_ids is None:
            return mask
        query_ids = jax.lax.dynamic_slice_in_dim(self.segment_ids, start, queries, 1)[:, :, None]
        key_ids = jax.lax.dynamic_slice_in_dim(self.segment_ids, first, keys, 1)[:, None, :]
        same = query_ids == key_ids
        return mask & (same | (key_ids == 0) if self.shared_prefix else same)


def within_window(distance: jax.Array, window: Window) -> jax.Array:
    """True where a token that lies `distance` tokens back is inside the window."""
    return (distance < window) | (jnp.asarray(window) == 0)
