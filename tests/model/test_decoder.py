"""The decoder over whole rows: padding, packing, positions, masked logits, pooling, long rows."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import UnsupportedError
from t1_jax.model import Decoder, RopeConfig, VocabMask, pool_embeddings
from t1_jax.model.pooling import l2_normalize
from t1_jax.parallel import MeshConfig, make_mesh_context
from tests.model.tiny import COMPILE_FAST, TINY, Model, build, tiny, tokens

UNTIED = tiny(tie_embeddings=False, qkv_bias=True, windows=(0, 5))


@pytest.fixture(scope="module")
def untied() -> Model:
    """A decoder with its own head, biases, and one layer with a window."""
    return build(UNTIED)


def test_padding_does_not_touch_real_tokens(untied: Model) -> None:
    ids = tokens(2, 9)
    padded = np.concatenate([ids, tokens(2, 7, seed=1)], axis=1)
    np.testing.assert_allclose(untied.hidden(padded)[:, :9], untied.hidden(ids), atol=2e-5)


def test_packed_equals_alone(untied: Model) -> None:
    texts = [tokens(1, length, seed=length) for length in (4, 9, 3)]
    packed = untied.hidden(
        np.concatenate(texts, axis=1),
        segment_ids=np.repeat([0, 1, 2], [4, 9, 3]).astype(np.int32)[None],
        positions=np.concatenate([np.arange(n) for n in (4, 9, 3)]).astype(np.int32)[None],
    )
    alone = np.concatenate([untied.hidden(text) for text in texts], axis=1)
    np.testing.assert_allclose(packed, alone, atol=2e-5)


def test_rows_do_not_see_each_other_nor_the_future(untied: Model) -> None:
    ids = tokens(3, 8)
    changed = ids.copy()
    changed[0, 5] = (ids[0, 5] + 1) % TINY.vocab_size
    apart = np.abs(untied.hidden(ids) - untied.hidden(changed)).max(axis=-1)
    assert apart[1:].max() < 1e-6
    assert apart[0, :5].max() < 1e-6
    assert apart[0, 5:].min() > 1e-3


def test_positions_past_256_differ_in_bf16() -> None:
    model = build(tiny(rope=RopeConfig(theta=10.0), max_positions=512), dtype="bfloat16")
    ids = np.tile(tokens(1, 3), (2, 1))
    positions = np.array([[0, 1, 256], [0, 1, 257]], np.int32)
    near, next_to_it = model.hidden(ids, positions=positions)
    assert np.abs(near[2] - next_to_it[2]).max() > 0.05


def test_only_distances_matter() -> None:
    model, ids = build(), tokens(1, 6)
    usual = model.hidden(ids)
    shifted = model.hidden(ids, positions=np.arange(6, dtype=np.int32)[None] + 40)
    np.testing.assert_allclose(shifted, usual, atol=1e-4)


def test_logits_of_padding_and_of_masked_rows_are_minus_infinity(untied: Model) -> None:
    logits = untied.logits(tokens(2, 4))
    assert logits.dtype == np.float32
    assert logits.shape == (2, 4, 56)
    assert np.isneginf(logits[..., 50:]).all()
    assert np.isfinite(logits[..., :50]).all()

    def call(decoder: Decoder, ids: jax.Array) -> jax.Array:
        allowed = decoder.token_mask[...]
        decoder.token_mask[...] = allowed & (jnp.arange(allowed.size) != 7)
        return decoder.logits(decoder(ids))

    masked = np.asarray(untied.run(call, untied.place(tokens(2, 4))))
    assert np.isneginf(masked[..., 7]).all()
    others = np.delete(np.arange(50), 7)
    np.testing.assert_allclose(masked[..., others], logits[..., others], atol=1e-6)


def test_token_mask_is_not_a_parameter() -> None:
    decoder = build().decoder
    params, masks, rest = nnx.state(decoder, nnx.Param, VocabMask, ...)
    assert len(jax.tree.leaves(masks)) == 1
    assert not jax.tree.leaves(rest)
    assert len(jax.tree.leaves(params)) == 11


def test_pool_reads_the_named_position_in_float32() -> None:
    model = build(dtype="bfloat16")
    ids, at = tokens(3, 6), np.array([5, 0, 3], np.int32)

    def call(decoder: Decoder, ids: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        hidden = decoder(ids)
        return hidden, pool_embeddings(decoder, hidden, at)

    hidden, pooled = model.run(call, model.place(ids), model.place(at, "b"))
    assert hidden.dtype == jnp.bfloat16
    assert pooled.dtype == jnp.float32
    x = np.asarray(hidden, np.float64)[np.arange(3), at]
    x /= np.sqrt((x**2).mean(-1, keepdims=True) + TINY.norm_eps)
    x *= np.asarray(model.decoder.final_norm.scale[...])
    np.testing.assert_allclose(pooled, x / np.linalg.norm(x, axis=-1, keepdims=True), atol=1e-5)


def test_unit_of_zero_is_zero() -> None:
    rows = jnp.array([[3.0, 4.0], [0.0, 0.0]], jnp.bfloat16)
    np.testing.assert_allclose(l2_normalize(rows), [[0.6, 0.8], [0, 0]], atol=1e-7)
    assert l2_normalize(rows).dtype == jnp.float32
    np.testing.assert_array_equal(jax.grad(lambda x: l2_normalize(x)[0, 0])(rows)[1], 0)


def test_text_beyond_the_checkpoints_positions_is_refused_unless_packed(untied: Model) -> None:
    ids = tokens(1, 65)
    with pytest.raises(UnsupportedError, match="65 tokens, .* at most 64 positions\n.*cut"):
        untied.hidden(ids)
    positions = np.arange(65, dtype=np.int32)[None] % 40
    segments = (np.arange(65, dtype=np.int32) // 40)[None]
    assert np.isfinite(untied.hidden(ids, positions=positions, segment_ids=segments)).all()


def test_rows_that_do_not_divide_are_refused() -> None:
    mesh_context = make_mesh_context(MeshConfig(data=2, tensor=2), devices=jax.devices()[:4])
    model = build(mesh_context=mesh_context)
    with pytest.raises(UnsupportedError, match="3 rows .* 2 devices.*\n.*multiple of 2 rows"):
        model.run(lambda decoder, ids: decoder(ids), tokens(3, 4))


@pytest.mark.parametrize("windows", [(0, 0), (0, 512)])
def test_a_long_row_never_has_all_its_scores_in_memory(windows: tuple[int, int]) -> None:
    length = 8192
    model = build(tiny(windows=windows, max_positions=length), remat="full")
    graph, params, rest = nnx.split(model.decoder, nnx.Param, ...)
    ids = model.place(tokens(1, length))
    all_scores = 4 * TINY.num_heads * length**2

    def hidden(params: nnx.State, ids: jax.Array) -> jax.Array:
        return nnx.merge(graph, params, rest)(ids)

    def memory(call: Any) -> int:
        compiled = jax.jit(call, compiler_options=COMPILE_FAST).lower(params, ids).compile()
        analysis = compiled.memory_analysis()
        assert analysis is not None
        return analysis.temp_size_in_bytes

    with model.mesh_context.activate():
        assert memory(hidden) < all_scores / 6
        assert memory(jax.grad(lambda *args: hidden(*args).sum())) < all_scores / 3
