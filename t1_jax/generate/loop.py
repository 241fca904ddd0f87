"""The compiled decoding block: consume a token, read a vector or draw the next token, repeat."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt32

from t1_jax.generate.sampling import SamplingParams, choose_tokens, token_log_probs
from t1_jax.generate.state import DecodeState
from t1_jax.model import Decoder
from t1_jax.parallel import activation_axes


@dataclass(frozen=True, kw_only=True)
class StopTokens:
    """The tokens that end a thought.

    Attributes:
        emb: id of `<emb_token>`.
        eos: ids that end a text; after one `<emb_token>` is forced.
    """

    emb: int
    eos: tuple[int, ...]


class BlockOutput(NamedTuple):
    """What one block drew; entries of rows that drew nothing at a step are -1 and 0.

    Attributes:
        tokens: drawn or forced tokens.
        log_probs: nats at the sampling temperature.
        log_probs_at_1: nats at temperature 1.
        steps: how many steps the block ran.
    """

    tokens: Int[Array, "P G T"]
    log_probs: Float[Array, "P G T"]
    log_probs_at_1: Float[Array, "P G T"]
    steps: Int[Array, ""]


@functools.partial(
    jax.jit,
    static_argnames=("graph", "options", "stop", "block"),
    donate_argnames=("state",),
)
def decode_block(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    state: DecodeState,
    max_thought_tokens: Int[Array, ""],
    *,
    options: SamplingParams,
    stop: StopTokens,
    block: int,
) -> tuple[DecodeState, BlockOutput]:
    """Runs at most `block` steps, fewer if every thought has ended.

    One step consumes each thought's token. If that was `<emb_token>` its final hidden state is
    the thought's vector and the thought is over; else the next token is drawn, or `<emb_token>`
    forced where `max_thought_tokens` tokens have been drawn or an end of text was consumed.
    """
    decoder = nnx.merge(graph, weights)
    prompts, samples = state.token.shape
    spec = decoder.rules.spec(activation_axes("pg"))
    shape = (prompts, samples, block)
    output = BlockOutput(
        jnp.full(shape, -1, jnp.int32, out_sharding=spec),
        jnp.zeros(shape, out_sharding=spec),
        jnp.zeros(shape, out_sharding=spec),
        jnp.zeros((), jnp.int32),
    )

    def running(carry: tuple[DecodeState, BlockOutput]) -> jax.Array:
        state, output = carry
        return (output.steps < block) & (jnp.sum(state.live, dtype=jnp.int32) > 0)

    def step(carry: tuple[DecodeState, BlockOutput]) -> tuple[DecodeState, BlockOutput]:
        state, output = carry
        hidden, suffix = decoder.decode(
            state.token, state.position, state.slot, state.prefix, state.suffix
        )
        ended = state.live & (state.token == stop.emb)
        vectors = decoder.vectors(hidden)
        live = state.live & ~ended
        token, log_prob, log_prob_at_1 = _next_token(
            decoder, decoder.logits(hidden), state, max_thought_tokens, options, stop
        )

        def record(old: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(old, new[..., None], output.steps, axis=2)

        output = BlockOutput(
            record(output.tokens, jnp.where(live, token, -1)),
            record(output.log_probs, jnp.where(live, log_prob, 0)),
            record(output.log_probs_at_1, jnp.where(live, log_prob_at_1, 0)),
            output.steps + 1,
        )
        seen = state.seen
        if seen is not None:
            seen = seen | (jnp.arange(seen.shape[-1]) == token[..., None])
        state = state._replace(
            suffix=suffix,
            slot=state.slot + 1,
            token=token,
            position=state.position + 1,
            drawn=state.drawn + 1,
            live=live,
            vectors=jnp.where(ended[..., None], vectors, state.vectors),
            seen=seen,
        )
        return state, output

    return jax.lax.while_loop(running, step, (state, output))


def _next_token(
    decoder: Decoder,
    logits: Float[Array, "P G V"],
    state: DecodeState,
    max_thought_tokens: Int[Array, ""],
    options: SamplingParams,
    stop: StopTokens,
) -> tuple[Int[Array, "P G"], Float[Array, "P G"], Float[Array, "P G"]]:
    """Draws or forces a token for every row, each device for its own rows."""
    rows = decoder.rules.spec(activation_axes("pg"))
    over_length = options.min_length > 0

    def local(
        logits: Float[Array, "P G V"],
        token: Int[Array, "P G"],
        count: Int[Array, "P G"],
        keys: UInt32[Array, "P G 2"],
        seen: Bool[Array, "P G V"] | None,
        max_thought_tokens: Int[Array, ""],
    ) -> tuple[jax.Array, jax.Array, jax.Array]:
        shape = token.shape
        logits = logits.reshape(-1, logits.shape[-1])
        token, count, keys = token.reshape(-1), count.reshape(-1), keys.reshape(-1, 2)
        seen = None if seen is None else seen.reshape(logits.shape)
        banned = None
        if over_length:
            enders = (
                jnp.zeros(logits.shape[-1], bool).at[jnp.array([stop.emb, *stop.eos])].set(True)
            )
            banned = (count < options.min_length)[:, None] & enders
        drawn = choose_tokens(logits, _uniform(keys, count), seen, banned, options)
        forced = (count >= max_thought_tokens) | jnp.isin(token, jnp.array(stop.eos, jnp.int32))
        drawn = jnp.where(forced, stop.emb, drawn)
        log_probs = token_log_probs(logits, drawn, options.temperature)
        return drawn.reshape(shape), log_probs[0].reshape(shape), log_probs[1].reshape(shape)

    whole = jax.reshard(logits, rows)
    return jax.shard_map(
        local,
        in_specs=(rows, rows, rows, rows, rows, jax.P()),
        out_specs=(rows, rows, rows),
        check_vma=False,
    )(whole, state.token, state.drawn, state.keys, state.seen, max_thought_tokens)


def _uniform(keys: UInt32[Array, "B 2"], count: Int[Array, " B"]) -> Float[Array, " B"]:
    """The number of a thought's `count`-th draw, whatever else is in the batch."""

    def one(key: jax.Array, count: jax.Array) -> jax.Array:
        stream = jax.random.wrap_key_data(key, impl="threefry2x32")
        return jax.random.uniform(jax.random.fold_in(stream, count))

    return jax.vmap(one)(keys, count)
