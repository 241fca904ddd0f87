"""Prefill and decode read the same function as a full forward pass."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.model import Decoder, KVCache, PrefixCache, SuffixCache
from t1_jax.model.cache import attend_cache, merge_attention, prefix_mask, suffix_mask
from t1_jax.parallel import activation_axes
from tests.model.tiny import Model, build, tiny, tokens

P, G, PROMPT, THOUGHT = 4, 2, 7, 5
LENGTHS = np.array([7, 3, 1, 5], np.int32)
STARTS = np.array([0, 0, 3, 2], np.int32)
SLOTS = THOUGHT + int(STARTS.max())
PROMPTS, THOUGHTS = tokens(P, PROMPT), tokens(P, G, THOUGHT, seed=1)


def sharding(decoder: Decoder, letters: str) -> jax.P:
    """How an activation of these letters is split."""
    return decoder.rules.spec(activation_axes(letters))


def full_of_rubbish(decoder: Decoder, prefix: PrefixCache, starts: jax.Array) -> SuffixCache:
    """A suffix of `SLOTS` slots, all full of what must not be read."""

    def layer(like: KVCache) -> KVCache:
        *stack, _, heads, _, size = like.keys.shape
        stacked = "y" * len(stack)
        keys, values = (*stack, P, G, heads, SLOTS, size), (*stack, P, G, heads, size, SLOTS)
        return KVCache(
            *(
                jnp.full(shape, 100.0, like.keys.dtype, out_sharding=sharding(decoder, letters))
                for shape, letters in ((keys, stacked + "pgksh"), (values, stacked + "pgkhs"))
            )
        )

    layers = prefix.layers
    if isinstance(layers, KVCache):
        return SuffixCache(layer(layers), starts)
    return SuffixCache(tuple(map(layer, layers)), starts)


def thinking(decoder: Decoder, prompts: jax.Array, lengths: jax.Array, starts: jax.Array) -> Any:
    """Hidden states of every slot [S P G D]; prompt p thinks from slot `starts[p]` on."""
    prefix = decoder.prefill(prompts, lengths)
    spec = sharding(decoder, "pg")

    def step(suffix: SuffixCache, slot: jax.Array) -> tuple[SuffixCache, jax.Array]:
        nth = jnp.clip(slot - starts, 0, THOUGHT - 1)
        now = nth[:, None, None] == jnp.arange(THOUGHT)
        fed = jnp.sum(jnp.where(now, jax.reshard(THOUGHTS, sharding(decoder, "pgl")), 0), axis=2)
        positions = jax.reshard(jnp.broadcast_to((lengths + nth)[:, None], (P, G)), spec)
        x, suffix = decoder.decode(fed, positions, slot, prefix, suffix)
        return suffix, x

    suffix = full_of_rubbish(decoder, prefix, starts)
    return jax.lax.scan(step, suffix, jnp.arange(SLOTS))[1]


def decoded(model: Model) -> np.ndarray:
    """Hidden states of each thought's tokens [P G T D]."""
    placed = model.place(PROMPTS), model.place(LENGTHS, "p"), model.place(STARTS, "p")
    states = np.asarray(model.run(thinking, *placed), np.float32)
    return np.stack([states[s : s + THOUGHT, p].swapaxes(0, 1) for p, s in enumerate(STARTS)])


def full(model: Model) -> np.ndarray:
    """The same by one full pass over each prompt with each thought."""
    rows = np.zeros((P, G, PROMPT + THOUGHT), np.int32)
    for p, length in enumerate(LENGTHS):
        rows[p, :, :length] = PROMPTS[p, :length]
        rows[p, :, length : length + THOUGHT] = THOUGHTS[p]
    hidden = model.hidden(rows.reshape(P * G, -1)).reshape(P, G, PROMPT + THOUGHT, -1)
    return np.stack([hidden[p, :, n : n + THOUGHT] for p, n in enumerate(LENGTHS)])


@pytest.mark.parametrize("unrolled", [False, True])
@pytest.mark.parametrize("windows", [(0, 0), (3, 3), (0, 4)])
def test_decoding_equals_a_full_pass(windows: tuple[int, int], unrolled: bool) -> None:
    model = build(tiny(windows=windows, qkv_bias=True, qk_norm=True))
    expected = full(model)
    if unrolled:
        with model.mesh_context.activate():
            model = Model(model.decoder.unstack_layers(), model.mesh_context)
        assert model.decoder.unstack_layers() is model.decoder
    np.testing.assert_allclose(decoded(model), expected, atol=3e-5)


def test_unrolled_decoder_is_the_same_function_and_leaves_the_stacked_one_alone() -> None:
    model = build(tiny(windows=(0, 4)), remat="full")
    before = model.hidden(tokens(2, 9))
    with model.mesh_context.activate():
        apart = Model(model.decoder.unstack_layers(), model.mesh_context)
    np.testing.assert_allclose(apart.hidden(tokens(2, 9)), before, atol=1e-5)
    np.testing.assert_array_equal(model.hidden(tokens(2, 9)), before)


def test_decoding_in_bf16_stays_near_the_full_pass() -> None:
    model = build(dtype="bfloat16")
    ours, expected = decoded(model), full(model)
    cosine = (ours * expected).sum(-1)
    cosine /= np.linalg.norm(ours, axis=-1) * np.linalg.norm(expected, axis=-1)
    assert cosine.min() > 0.999


def test_prefix_slots_seen() -> None:
    lengths, positions = jnp.array([3, 1]), jnp.array([[3, 4], [1, 2]])
    np.testing.assert_array_equal(
        prefix_mask(lengths, 4, positions, 0).astype(int),
        [[[1, 1, 1, 0], [1, 1, 1, 0]], [[1, 0, 0, 0], [1, 0, 0, 0]]],
    )
    np.testing.assert_array_equal(
        prefix_mask(lengths, 4, positions, jnp.array(3)).astype(int),
        [[[0, 1, 1, 0], [0, 0, 1, 0]], [[1, 0, 0, 0], [1, 0, 0, 0]]],
    )


def test_suffix_slots_seen() -> None:
    starts = jnp.array([0, 2, 4])
    np.testing.assert_array_equal(
        suffix_mask(starts, 5, jnp.array(3), 0).astype(int)[:, 0],
        [[1, 1, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]],
    )
    np.testing.assert_array_equal(
        suffix_mask(starts, 5, jnp.array(3), 2).astype(int)[:, 0],
        [[0, 0, 1, 1, 0], [0, 0, 1, 1, 0], [0, 0, 0, 0, 0]],
    )


def test_two_caches_merge_into_attention_over_both() -> None:
    generator = np.random.default_rng(2)
    q = jnp.asarray(generator.standard_normal((2, 3, 6, 4)), jnp.float32)
    k = jnp.asarray(generator.standard_normal((2, 2, 9, 4)), jnp.float32)
    v = jnp.asarray(generator.standard_normal((2, 2, 4, 9)), jnp.float32)
    mask = jnp.asarray(generator.random((2, 3, 9)) < 0.6).at[:, :, 0].set(True)
    whole, _ = attend_cache(q, k, v, mask)
    first, second = (
        attend_cache(q, k[:, :, part], v[..., part], mask[:, :, part])
        for part in (slice(0, 4), slice(4, 9))
    )
    np.testing.assert_allclose(merge_attention(first, second), whole, atol=1e-6)


def test_a_cache_with_nothing_to_see_takes_no_part_and_gives_no_nan() -> None:
    generator = np.random.default_rng(3)
    q = jnp.asarray(generator.standard_normal((2, 1, 6, 4)), jnp.float32)
    k = jnp.asarray(generator.standard_normal((2, 2, 5, 4)), jnp.float32)
    v = jnp.asarray(generator.standard_normal((2, 2, 4, 5)), jnp.float32)
    full = attend_cache(q, k, v, jnp.ones((2, 1, 5), bool))
    empty = attend_cache(q, k + 1, v + 1, jnp.zeros((2, 1, 5), bool))
    np.testing.assert_array_equal(merge_attention(full, empty), full[0])
    np.testing.assert_array_equal(merge_attention(empty, full), full[0])
    assert np.isfinite(merge_attention(empty, empty)).all()
