"""The decoding batch on the device, and how prompts and thoughts enter and leave it."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt32

from t1_jax.model import Decoder, KVCache, PrefixCache, SuffixCache
from t1_jax.parallel import MeshContext, activation_axes


class ThoughtState(NamedTuple):
    """What is known of each thought in the batch, G thoughts for each of P prompts.

    Attributes:
        token: the next token to consume.
        position: its position in prompt + thought.
        num_generated: tokens generated so far.
        done: thoughts that have consumed `<emb_token>`, and entries that only fill the batch up.
        keys: random key data.
        embeddings: unit vectors of the thoughts that are done.
        token_seen_mask: tokens in prompt and thought; None without a repetition penalty.
        trie_node: where the thought is in a `TokenTrie`; None without one.
    """

    token: Int[Array, "P G"]
    position: Int[Array, "P G"]
    num_generated: Int[Array, "P G"]
    done: Bool[Array, "P G"]
    keys: UInt32[Array, "P G 2"]
    embeddings: Float[Array, "P G D"]
    token_seen_mask: Bool[Array, "P G V"] | None
    trie_node: Int[Array, "P G"] | None = None


class DecodeState(NamedTuple):
    """A decoding batch.

    Attributes:
        prefix: caches of the prompts, all but their last token.
        suffix: caches of the thoughts; their first slot holds the prompt's last token.
        slot: where the next token of every thought is written; one for all, or one for each prompt.
    """

    prefix: PrefixCache
    suffix: SuffixCache
    slot: Int[Array, "*P"]
    thoughts: ThoughtState


class PromptBatch(NamedTuple):
    """Prompts that enter a decoding batch.

    Attributes:
        tokens: right-padded.
        lengths: tokens of each prompt, at least two.
        last_token: the last of them, which is held back for the first decoding step.
        keys: random key data of each thought.
        done: true for rows that only fill the batch up.
        token_seen_mask: tokens of each prompt; None without a repetition penalty.
        trie_node: the root of a `TokenTrie` for each thought; None without a trie.
    """

    tokens: Int[Array, "P S"]
    lengths: Int[Array, " P"]
    last_token: Int[Array, " P"]
    keys: UInt32[Array, "P G 2"]
    done: Bool[Array, "P G"]
    token_seen_mask: Bool[Array, "P V"] | None
    trie_node: Int[Array, "P G"] | None = None


@functools.partial(jax.jit, static_argnames=("graph", "mesh_context", "unstacked", "slots"))
def start_batch(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    prompts: PromptBatch,
    *,
    mesh_context: MeshContext,
    unstacked: bool,
    slots: int,
) -> DecodeState:
    """Prefills each prompt once: a batch whose suffix caches have `slots` empty slots.

    The decoder's layers are stacked; the caches are for unstacked ones if `unstacked`.
    """
    decoder = nnx.merge(graph, weights)
    config, rules = decoder.config, mesh_context.rules
    prefix = decoder.prefill(prompts.tokens, prompts.lengths - 1)
    layers = prefix.layers
    if unstacked:
        layers = tuple(KVCache(*layer) for layer in zip(*prefix.layers, strict=True))
    num_prompts, n = prompts.done.shape

    def empty(prefix: KVCache) -> KVCache:
        lead, heads, head_dim = prefix.keys.shape[:-4], config.num_kv_heads, config.head_dim
        spec = rules.spec(activation_axes("y" * len(lead) + "pgk"))
        shape, dtype = (*lead, num_prompts, n, heads), prefix.keys.dtype
        return KVCache(
            jnp.zeros((*shape, slots, head_dim), dtype, out_sharding=spec),
            jnp.zeros((*shape, head_dim, slots), dtype, out_sharding=spec),
        )

    def per_thought(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x[:, None], (num_prompts, n, *x.shape[1:]))

    seen = prompts.token_seen_mask
    return DecodeState(
        prefix=PrefixCache(layers, prefix.lengths),
        suffix=SuffixCache(
            jax.tree.map(empty, layers, is_leaf=_is_cache), jnp.zeros_like(prefix.lengths)
        ),
        slot=jnp.zeros((), jnp.int32),
        thoughts=ThoughtState(
            token=per_thought(prompts.last_token),
            position=per_thought(prefix.lengths),
            num_generated=jnp.zeros_like(prompts.done, jnp.int32),
            done=prompts.done,
            keys=prompts.keys,
            embeddings=jnp.zeros(
                (num_prompts, n, config.embed_dim), out_sharding=rules.spec(activation_axes("pgd"))
            ),
            token_seen_mask=None if seen is None else per_thought(seen),
            trie_node=prompts.trie_node,
        ),
    )


@functools.partial(jax.jit, static_argnames=("mesh_context", "slots"))
def compact_and_admit(
    state: DecodeState,
    new: DecodeState | None,
    prompt_indices: Int[Array, " Q"],
    thought_indices: Int[Array, "Q F"],
    done: Bool[Array, "Q F"],
    shift: Int[Array, ""],
    *,
    mesh_context: MeshContext,
    slots: int,
) -> DecodeState:
    """A batch of Q prompts with F thoughts each: ended thoughts leave it, new prompts enter.

    All thoughts write at the same slot, so a prompt that joins late starts at a late slot, and the
    slots before the earliest start are free once the prompts that used them have left. Here b has
    ended and d joins; the earliest start of the others is 3, so all move `shift` = 3 slots:

    ```
              slot = 6: v                                   slot = 3: v
    slots   0 1 2 3 4 5 6 7   starts              slots   0 1 2 3 4 5 6 7   starts
      a     . . . a a a . .     3                   a     a a a . . . . .     0
      b     b b b b . . . .     0        ->         c     . c c . . . . .     1
      c     . . . . c c . .     4                   d     . . . . . . . .     3
    ```

    Args:
        state: the batch so far.
        new: prompts that start at its current slot, or None.
        prompt_indices: for each row of the new batch, a prompt of `state`, or one of `new`, counted
            on after those of `state`.
        thought_indices: which of that prompt's thoughts the row holds.
        done: entries of the new batch that hold no running thought.
        shift: slots at the front that no running thought uses any more.
        mesh_context: mesh and rules.
        slots: size of the new suffix caches, no smaller than the old ones.
    """

    def apply(
        state: DecodeState,
        new: DecodeState | None,
        prompt_indices: jax.Array,
        thought_indices: jax.Array,
        done: jax.Array,
        shift: jax.Array,
    ) -> DecodeState:
        both = state if new is None else _admit(state, new)
        return _compact(both, prompt_indices, thought_indices, done, shift, slots)

    # Rows move between devices here, which explicit sharding leaves to the compiler.
    sharded = jax.sharding.auto_axes(apply, out_sharding=partition_specs(state, mesh_context))
    run = cast(Callable[..., DecodeState], sharded)
    return run(state, new, prompt_indices, thought_indices, done, shift)


def _admit(state: DecodeState, new: DecodeState) -> DecodeState:
    """The prompts of both, those of `new` after those of `state`; they start at its slot."""

    def join(axis: int) -> Callable[[jax.Array, jax.Array], jax.Array]:
        return lambda old, new: jnp.concatenate([old, new], axis=axis)

    starts = jnp.broadcast_to(state.slot, new.suffix.starts.shape)
    return DecodeState(
        prefix=PrefixCache(
            jax.tree.map(join(-4), state.prefix.layers, new.prefix.layers),
            join(0)(state.prefix.lengths, new.prefix.lengths),
        ),
        suffix=SuffixCache(
            jax.tree.map(join(-5), state.suffix.layers, new.suffix.layers),
            join(0)(state.suffix.starts, starts),
        ),
        slot=state.slot,
        thoughts=jax.tree.map(join(0), state.thoughts, new.thoughts),
    )


def _compact(
    state: DecodeState,
    prompt_indices: Int[Array, " Q"],
    thought_indices: Int[Array, "Q F"],
    done: Bool[Array, "Q F"],
    shift: Int[Array, ""],
    slots: int,
) -> DecodeState:
    """The chosen thoughts, their suffix caches moved `shift` slots to the front and grown."""
    at_thoughts = (prompt_indices[:, None], thought_indices)

    def gather_prefix(cache: jax.Array) -> jax.Array:
        return jnp.take(cache, prompt_indices, axis=-4)

    def gather_suffix(cache: jax.Array, slot_axis: int) -> jax.Array:
        rows = cache[..., *at_thoughts, :, :, :]
        rows = jnp.roll(rows, -shift, axis=slot_axis)
        rows = jax.lax.slice_in_dim(rows, 0, min(slots, rows.shape[slot_axis]), axis=slot_axis)
        padding = [(0, 0)] * rows.ndim
        padding[slot_axis] = (0, slots - rows.shape[slot_axis])
        return jnp.pad(rows, padding)

    def gather_layer(cache: KVCache) -> KVCache:
        return KVCache(gather_suffix(cache.keys, -2), gather_suffix(cache.values, -1))

    thoughts = jax.tree.map(lambda leaf: leaf[at_thoughts], state.thoughts)
    return DecodeState(
        prefix=PrefixCache(
            jax.tree.map(gather_prefix, state.prefix.layers), state.prefix.lengths[prompt_indices]
        ),
        suffix=SuffixCache(
            jax.tree.map(gather_layer, state.suffix.layers, is_leaf=_is_cache),
            state.suffix.starts[prompt_indices] - shift,
        ),
        slot=state.slot - shift,
        thoughts=thoughts._replace(done=done),
    )


def _is_cache(leaf: object) -> bool:
    return isinstance(leaf, KVCache)


def partition_specs(state: DecodeState, mesh_context: MeshContext) -> Any:
    """The partition of every array of a batch, in the same structure."""

    def spec(letters: str) -> jax.P:
        return mesh_context.rules.spec(activation_axes(letters))

    def cache(letters: str, leaf: jax.Array) -> jax.P:
        return spec("y" * (leaf.ndim - len(letters)) + letters)

    def caches(letters: str, layers: Any) -> Any:
        return jax.tree.map(functools.partial(cache, letters), layers)

    thoughts = jax.tree.map(lambda leaf: spec("pg"), state.thoughts)
    return DecodeState._make(
        (
            PrefixCache._make((caches("pksh", state.prefix.layers), spec("p"))),
            SuffixCache._make((caches("pgksh", state.suffix.layers), spec("p"))),
            jax.P(),
            thoughts._replace(embeddings=spec("pgd")),
        )
    )
