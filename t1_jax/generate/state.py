"""The decoding batch on the device, and how it is built, reordered and grown between blocks."""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Bool, Float, Int, UInt32

from t1_jax.model import Decoder, LayerCache, PrefixCache, SuffixCache
from t1_jax.parallel import MeshContext, activation_axes


class DecodeState(NamedTuple):
    """P prompts times G thoughts in flight.

    Attributes:
        prefix: shared caches of the prompts, all but their last token.
        suffix: caches of the thoughts; slot 0 of a thought is the prompt's last token.
        slot: where the next token of every thought is written.
        token: the next token to consume.
        position: its position in prompt + thought.
        drawn: tokens drawn so far.
        live: thoughts that have not yet consumed `<emb_token>`.
        keys: random key data of each thought.
        vectors: unit vectors of thoughts that ended.
        seen: tokens in prompt and thought, where the repetition penalty needs them.
    """

    prefix: PrefixCache
    suffix: SuffixCache
    slot: Int[Array, ""]
    token: Int[Array, "P G"]
    position: Int[Array, "P G"]
    drawn: Int[Array, "P G"]
    live: Bool[Array, "P G"]
    keys: UInt32[Array, "P G 2"]
    vectors: Float[Array, "P G D"]
    seen: Bool[Array, "P G V"] | None


class Arrivals(NamedTuple):
    """What the host knows of prompts that start.

    Attributes:
        tokens: the prompts, right-padded.
        lengths: their tokens, at least two.
        last_token: the last of them, which is held back for the first decoding step.
        keys: random key data of each thought.
        live: false for rows that only fill the batch up.
        seen: tokens of each prompt, where the repetition penalty needs them.
    """

    tokens: Int[Array, "P S"]
    lengths: Int[Array, " P"]
    last_token: Int[Array, " P"]
    keys: UInt32[Array, "P G 2"]
    live: Bool[Array, "P G"]
    seen: Bool[Array, "P V"] | None


@functools.partial(jax.jit, static_argnames=("graph", "mesh_context", "unroll", "slots"))
def start_batch(
    graph: nnx.GraphDef[Decoder],
    weights: nnx.State,
    arrivals: Arrivals,
    *,
    mesh_context: MeshContext,
    unroll: bool,
    slots: int,
) -> DecodeState:
    """Runs each prompt once and returns a batch with empty suffix caches of `slots` slots."""
    decoder = nnx.merge(graph, weights)
    config, rules = decoder.config, mesh_context.rules
    prefix = decoder.prefill(arrivals.tokens, arrivals.lengths - 1)
    layers = prefix.layers
    if unroll:
        layers = tuple(LayerCache(*layer) for layer in zip(*prefix.layers, strict=True))
    prompts, samples = arrivals.live.shape

    def empty(prefix: LayerCache) -> LayerCache:
        lead, heads, width = prefix.keys.shape[:-4], config.num_kv_heads, config.head_dim
        letters = "y" * len(lead) + "pgk"
        spec = rules.spec(activation_axes(letters))
        shape, dtype = (*lead, prompts, samples, heads), prefix.keys.dtype
        return LayerCache(
            jnp.zeros((*shape, slots, width), dtype, out_sharding=spec),
            jnp.zeros((*shape, width, slots), dtype, out_sharding=spec),
        )

    def per_thought(x: jax.Array) -> jax.Array:
        return jnp.broadcast_to(x[:, None], (prompts, samples, *x.shape[1:]))

    return DecodeState(
        prefix=PrefixCache(layers, prefix.lengths),
        suffix=SuffixCache(
            jax.tree.map(empty, layers, is_leaf=_is_layer), jnp.zeros_like(prefix.lengths)
        ),
        slot=jnp.zeros((), jnp.int32),
        token=per_thought(arrivals.last_token),
        position=per_thought(prefix.lengths),
        drawn=jnp.zeros_like(arrivals.live, jnp.int32),
        live=arrivals.live,
        keys=arrivals.keys,
        vectors=jnp.zeros(
            (prompts, samples, config.embed_dim), out_sharding=rules.spec(activation_axes("pgd"))
        ),
        seen=None if arrivals.seen is None else per_thought(arrivals.seen),
    )


@functools.partial(jax.jit, static_argnames=("mesh_context", "slots"))
def rearrange(
    state: DecodeState,
    joining: DecodeState | None,
    take: Int[Array, " Q"],
    take_thought: Int[Array, "Q F"],
    live: Bool[Array, "Q F"],
    shift: Int[Array, ""],
    *,
    mesh_context: MeshContext,
    slots: int,
) -> DecodeState:
    """A batch of Q chosen prompts and F of their thoughts, its suffix moved towards the front.

    Args:
        state: the old batch.
        joining: prompts that start at the old batch's slot, or None.
        take: for each place of the new batch, a prompt of the old one, or of `joining` counted
            on after it.
        take_thought: which of that prompt's thoughts stand in the new batch.
        live: which places of the new batch hold work.
        shift: slots at the front that no live thought uses any more.
        mesh_context: mesh and rules.
        slots: size of the new suffix.
    """

    def chosen(
        state: DecodeState,
        joining: DecodeState | None,
        take: jax.Array,
        take_thought: jax.Array,
        live: jax.Array,
        shift: jax.Array,
    ) -> DecodeState:
        if joining is not None:
            starts = jnp.broadcast_to(state.slot, joining.suffix.starts.shape)
            joining = joining._replace(suffix=joining.suffix._replace(starts=starts))

        def joined(old: jax.Array, new: jax.Array | None, axis: int = 0) -> jax.Array:
            return old if new is None else jnp.concatenate([old, new], axis=axis)

        def prompts(old: jax.Array, new: jax.Array | None) -> jax.Array:
            return joined(old, new)[take]

        def thoughts(old: jax.Array, new: jax.Array | None) -> jax.Array:
            return joined(old, new)[take[:, None], take_thought]

        def prefix_leaf(old: jax.Array, new: jax.Array | None = None) -> jax.Array:
            return jnp.take(joined(old, new, axis=-4), take, axis=-4)

        def suffix_leaf(old: jax.Array, new: jax.Array | None, axis: int) -> jax.Array:
            both = joined(old, new, axis=-5)
            rows = both[..., take[:, None], take_thought, :, :, :]
            rows = jnp.roll(rows, -shift, axis=axis)
            rows = jax.lax.slice_in_dim(rows, 0, min(slots, rows.shape[axis]), axis=axis)
            grown = [(0, 0)] * rows.ndim
            grown[axis] = (0, slots - rows.shape[axis])
            return jnp.pad(rows, grown)

        def suffix_layer(old: LayerCache, new: LayerCache | None = None) -> LayerCache:
            return LayerCache(
                suffix_leaf(old.keys, new and new.keys, axis=-2),
                suffix_leaf(old.values, new and new.values, axis=-1),
            )

        new = joining
        shared, own = [state.prefix.layers], [state.suffix.layers]
        if new is not None:
            shared.append(new.prefix.layers)
            own.append(new.suffix.layers)
        prefix = jax.tree.map(prefix_leaf, *shared)
        suffix = jax.tree.map(suffix_layer, *own, is_leaf=_is_layer)
        starts = prompts(state.suffix.starts, new and new.suffix.starts)
        seen = None
        if state.seen is not None:
            seen = thoughts(state.seen, new and new.seen)
        return DecodeState(
            prefix=PrefixCache(prefix, prompts(state.prefix.lengths, new and new.prefix.lengths)),
            suffix=SuffixCache(suffix, starts - shift),
            slot=state.slot - shift,
            token=thoughts(state.token, new and new.token),
            position=thoughts(state.position, new and new.position),
            drawn=thoughts(state.drawn, new and new.drawn),
            live=live,
            keys=thoughts(state.keys, new and new.keys),
            vectors=thoughts(state.vectors, new and new.vectors),
            seen=seen,
        )

    specs = _specs(state, mesh_context)
    # Rows move between devices here, which explicit sharding leaves to the compiler.
    spread = jax.sharding.auto_axes(chosen, out_sharding=specs)
    move = cast(Callable[..., DecodeState], spread)
    return move(state, joining, take, take_thought, live, shift)


def _is_layer(leaf: object) -> bool:
    return isinstance(leaf, LayerCache)


def _specs(state: DecodeState, mesh_context: MeshContext) -> Any:
    """A batch with, in place of every leaf, its partition."""
    batch, shared, own = cast(
        tuple[Callable[..., Any], ...], (DecodeState, PrefixCache, SuffixCache)
    )

    def spec(letters: str) -> jax.P:
        return mesh_context.rules.spec(activation_axes(letters))

    def cache(letters: str, leaf: jax.Array) -> jax.P:
        return spec("y" * (leaf.ndim - len(letters)) + letters)

    rows = spec("pg")
    return batch(
        prefix=shared(
            jax.tree.map(functools.partial(cache, "pksh"), state.prefix.layers), spec("p")
        ),
        suffix=own(jax.tree.map(functools.partial(cache, "pgksh"), state.suffix.layers), spec("p")),
        slot=jax.P(),
        token=rows,
        position=rows,
        drawn=rows,
        live=rows,
        keys=rows,
        vectors=spec("pgd"),
        seen=None if state.seen is None else rows,
    )
