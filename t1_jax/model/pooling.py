"""From hidden states to embeddings: final norm at `<emb_token>`, then L2 normalization."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

from t1_jax.model.decoder import Decoder
from t1_jax.parallel import ShardingRules, activation_axes


def pool_embeddings(
    decoder: Decoder, hidden: Float[Array, "B L D"], emb_positions: Int[Array, " B"]
) -> Float[Array, "B D"]:
    """`to_embeddings` of each row's hidden state at its slot of `<emb_token>`."""
    taken = take_positions(hidden, emb_positions[:, None], decoder.rules)
    return to_embeddings(decoder, jnp.squeeze(taken, 1))


def take_positions(
    hidden: Float[Array, "B L D"], positions: Int[Array, "B A"], rules: ShardingRules
) -> Float[Array, "B A D"]:
    """The hidden states at some positions of each row; each device takes those of its own rows.

    Left to XLA, the gradient is exchanged between all devices.
    """
    by_row = rules.spec(activation_axes("bld")), rules.spec(activation_axes("bl"))
    return jax.shard_map(
        lambda states, index: states[jnp.arange(len(index))[:, None], index],
        in_specs=by_row,
        out_specs=by_row[0],
    )(*jax.reshard((hidden, positions), by_row))


def to_embeddings(decoder: Decoder, hidden: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """Hidden states at `<emb_token>` to unit vectors: final norm and L2 norm in float32."""
    return l2_normalize(decoder.final_norm(hidden.astype(jnp.float32)))


def l2_normalize(x: Float[Array, "*B D"]) -> Float[Array, "*B D"]:
    """X / |x| over the last axis, in float32; a zero vector stays zero, with gradient zero."""
    x = x.astype(jnp.float32)
    squared = jnp.sum(x * x, axis=-1, keepdims=True)
    # sqrt has no gradient at 0, and 0 times an infinite one is NaN.
    return x / jnp.sqrt(jnp.where(squared > 0, squared, 1.0))
