"""The compiled decoding loop: consume a token, then store an embedding or choose the next token."""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt32

from t1_jax.generate.sampling import SamplingParams, choose_tokens, token_log_probs, uniform_of
from t1_jax.generate.state import DecodeState
from t1_jax.generate.trie import TokenTrie
from t1_jax.model import Decoder, to_embeddings
from t1_jax.parallel import activation_axes


@dataclass(frozen=True, kw_only=True)
class StopTokens:
    """Ids of `<emb_token>` and of the end-of-text tokens, to which `<emb_token>` is appended."""

    emb: int
    eos: tuple[int, ...]


class ChunkOutput(NamedTuple):
    """Sampled or appended tokens and their log-probabilities, as in `Thought`, one column a step.

    Entries of thoughts that were done at a step are -1 and 0; `steps` is the number of steps run.
    """

    tokens: Int[Array, "P G T"]
    log_probs: Float[Array, "P G T"]
    log_probs_at_1: Float[Array, "P G T"]
    steps: Int[Array, ""]


@functools.partial(
    jax.jit,
    static_argnames=("graph", "sampling", "stop", "max_steps"),
    donate_argnames=("state",),
)
def decode_chunk(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    state: DecodeState,
    max_thought_tokens: Int[Array, "P G"],
    *,
    sampling: SamplingParams,
    stop: StopTokens,
    max_steps: int,
    trie: TokenTrie | None = None,
) -> tuple[DecodeState, ChunkOutput]:
    """Decodes until `max_steps` steps have run or all thoughts are done.

    A step consumes each thought's next token. If that is `<emb_token>`, the thought is done and
    the final hidden state gives its embedding. Otherwise the following token is sampled; it is
    `<emb_token>` once the thought has its `max_thought_tokens` tokens, and after an end of text.

    With a `trie`, whose nodes `state` holds, a thought is one of its texts; log-probabilities are
    those without it. `state` is donated. The seed of `sampling` is not read. `max_steps` is T of
    the output's shapes.
    """
    decoder = nnx.merge(graph, weights)
    shape = (*state.thoughts.token.shape, max_steps)
    spec = decoder.rules.spec(activation_axes("pg"))
    output = ChunkOutput(
        jnp.full(shape, -1, jnp.int32, out_sharding=spec),
        jnp.zeros(shape, out_sharding=spec),
        jnp.zeros(shape, out_sharding=spec),
        jnp.zeros((), jnp.int32),
    )

    def is_running(carry: tuple[DecodeState, ChunkOutput]) -> jax.Array:
        state, output = carry
        return (output.steps < max_steps) & (jnp.sum(~state.thoughts.done, dtype=jnp.int32) > 0)

    def step(carry: tuple[DecodeState, ChunkOutput]) -> tuple[DecodeState, ChunkOutput]:
        state, output = carry
        thoughts = state.thoughts
        hidden, suffix = decoder.decode(
            thoughts.token, thoughts.position, state.slot, state.prefix, state.suffix
        )
        ends_now = ~thoughts.done & (thoughts.token == stop.emb)
        embeddings = to_embeddings(decoder, hidden)
        done = thoughts.done | ends_now
        token, log_prob, log_prob_at_1, node = _next_token(
            decoder, decoder.logits(hidden), state, max_thought_tokens, sampling, stop, trie
        )

        def record(column: jax.Array, new: jax.Array) -> jax.Array:
            return jax.lax.dynamic_update_slice_in_dim(column, new[..., None], output.steps, axis=2)

        output = ChunkOutput(
            record(output.tokens, jnp.where(done, -1, token)),
            record(output.log_probs, jnp.where(done, 0, log_prob)),
            record(output.log_probs_at_1, jnp.where(done, 0, log_prob_at_1)),
            output.steps + 1,
        )
        seen = thoughts.token_seen_mask
        if seen is not None:
            seen = seen | (jnp.arange(seen.shape[-1]) == token[..., None])
        thoughts = thoughts._replace(
            token=token,
            position=thoughts.position + 1,
            num_generated=thoughts.num_generated + 1,
            done=done,
            embeddings=jnp.where(ends_now[..., None], embeddings, thoughts.embeddings),
            token_seen_mask=seen,
            trie_node=node,
        )
        state = state._replace(suffix=suffix, slot=state.slot + 1, thoughts=thoughts)
        return state, output

    return jax.lax.while_loop(is_running, step, (state, output))


@functools.partial(jax.jit, static_argnames=("graph", "stop"), donate_argnames=("state",))
def probe_embeddings(
    graph: nnx.GraphDef[Decoder], weights: nnx.State, state: DecodeState, *, stop: StopTokens
) -> tuple[DecodeState, Float[Array, "P G D"]]:
    """The embedding each thought would have, if it ended before its next token.

    `<emb_token>` is consumed in place of that token, at the same slot. The next step overwrites the
    slot, so the thoughts go on as if nothing had been read. `state` is donated.
    """
    decoder = nnx.merge(graph, weights)
    thoughts = state.thoughts
    hidden, suffix = decoder.decode(
        jnp.full_like(thoughts.token, stop.emb),
        thoughts.position,
        state.slot,
        state.prefix,
        state.suffix,
    )
    return state._replace(suffix=suffix), to_embeddings(decoder, hidden)


def _next_token(
    decoder: Decoder,
    logits: Float[Array, "P G V"],
    state: DecodeState,
    max_thought_tokens: Int[Array, "P G"],
    sampling: SamplingParams,
    stop: StopTokens,
    trie: TokenTrie | None,
) -> tuple[Int[Array, "P G"], Float[Array, "P G"], Float[Array, "P G"], Int[Array, "P G"] | None]:
    """Samples a token or appends `<emb_token>` in every row; each device does its own rows.

    Returns the tokens, their log-probabilities at the temperature and at 1, and the trie's nodes.
    """
    spec = decoder.rules.spec(activation_axes("pg"))

    def local(
        logits: Float[Array, "P G V"],
        token: Int[Array, "P G"],
        num_generated: Int[Array, "P G"],
        keys: UInt32[Array, "P G 2"],
        seen: Bool[Array, "P G V"] | None,
        max_thought_tokens: Int[Array, "P G"],
        node: Int[Array, "P G"] | None,
        trie: TokenTrie | None,
    ) -> tuple[jax.Array, jax.Array, jax.Array, jax.Array | None]:
        shape = token.shape
        logits = logits.reshape(-1, logits.shape[-1])
        token, count, keys = token.reshape(-1), num_generated.reshape(-1), keys.reshape(-1, 2)
        seen = None if seen is None else seen.reshape(logits.shape)
        banned = None
        if sampling.min_length > 0:
            ends = jnp.zeros(logits.shape[-1], bool).at[jnp.array([stop.emb, *stop.eos])].set(True)
            banned = (count < sampling.min_length)[:, None] & ends
        children = None
        if trie is not None and node is not None:
            node, vocab = node.reshape(-1), logits.shape[-1]
            children = trie.children(node, vocab)
            banned = trie.banned(node, children, vocab, stop.emb)
        sampled = choose_tokens(logits, uniform_of(keys, count), seen, banned, sampling)
        append = (count >= max_thought_tokens.reshape(-1)) | jnp.isin(
            token, jnp.array(stop.eos, jnp.int32)
        )
        chosen = jnp.where(append, stop.emb, sampled)
        log_probs = token_log_probs(logits, chosen, sampling.temperature)
        if trie is not None and node is not None and children is not None:
            node = trie.next_nodes(node, children, chosen).reshape(shape)
        return (
            chosen.reshape(shape),
            log_probs[0].reshape(shape),
            log_probs[1].reshape(shape),
            node,
        )

    thoughts, logits = state.thoughts, jax.reshard(logits, spec)
    return jax.shard_map(
        local,
        in_specs=(spec, spec, spec, spec, spec, spec, spec, jax.P()),
        out_specs=(spec, spec, spec, spec),
        check_vma=False,
    )(
        logits,
        thoughts.token,
        thoughts.num_generated,
        thoughts.keys,
        thoughts.token_seen_mask,
        max_thought_tokens,
        thoughts.trie_node,
        trie,
    )
