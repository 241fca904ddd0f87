"""A prompt and its thoughts in one row are what each is behind its own copy of the prompt."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import UnsupportedError
from t1_jax.model import AttentionMask, Decoder, ModelOptions
from t1_jax.model.attention import causal_attention
from t1_jax.parallel import MeshConfig, ShardingRules, make_mesh_context, single_device_mesh_context
from tests.model.tiny import COMPILE_FAST, TINY, Model, build, forward, tiny, tokens

PROMPT, THOUGHTS = 5, (4, 1, 6)
ROWS = 2


def packed() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Two rows of a prompt, three thoughts, padding of two: tokens, positions, segments."""
    lengths = [PROMPT, *THOUGHTS, 2]
    segments = np.repeat([0, 1, 2, 3, -1], lengths)
    starts = [0, *([PROMPT] * 3), 0]
    positions = np.concatenate(
        [start + np.arange(n) for start, n in zip(starts, lengths, strict=True)]
    )
    ids = tokens(ROWS, sum(lengths))
    one = [np.broadcast_to(x.astype(np.int32), ids.shape) for x in (positions, segments)]
    return ids, one[0], one[1]


def gradients(model: Model, call: Any, *arrays: Any) -> tuple[Any, Any]:
    """The loss's output beside it, and the gradient of every parameter."""
    graph, params, rest = nnx.split(model.decoder, nnx.Param, ...)

    def loss(params: nnx.State, *arrays: Any) -> Any:
        return call(nnx.merge(graph, params, rest), *arrays)

    with model.mesh_context.activate():
        compiled = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE_FAST)
        found, out = compiled(params, *(model.place(array) for array in arrays))
    return np.asarray(out), jax.tree.map(np.asarray, nnx.to_pure_dict(found))


def in_one_row(model: Model) -> tuple[np.ndarray, Any]:
    """Hidden states of the thoughts' tokens, and gradients of a sum over them."""
    ids, positions, segments = packed()

    def call(decoder: Decoder, ids: Any, positions: Any, segments: Any) -> Any:
        hidden = forward(decoder, ids, positions, segment_ids=segments, shared_prefix=True)
        return jnp.sum(jnp.sin(3 * hidden) * (segments > 0)[..., None]), hidden

    hidden, found = gradients(model, call, ids, positions, segments)
    return hidden[:, PROMPT:-2], found


def in_own_rows(model: Model) -> tuple[np.ndarray, Any]:
    """The same of one row per thought, behind a copy of its prompt."""
    ids = packed()[0]
    rows = np.zeros((ROWS, len(THOUGHTS), PROMPT + max(THOUGHTS)), np.int32)
    real = np.zeros(rows.shape, bool)
    for i, length in enumerate(THOUGHTS):
        begin = PROMPT + sum(THOUGHTS[:i])
        rows[:, i, :PROMPT] = ids[:, :PROMPT]
        rows[:, i, PROMPT : PROMPT + length] = ids[:, begin : begin + length]
        real[:, i, PROMPT : PROMPT + length] = True
    flat = rows.reshape(ROWS * len(THOUGHTS), -1)

    def call(decoder: Decoder, ids: Any, real: Any) -> Any:
        hidden = decoder(ids)
        return jnp.sum(jnp.sin(3 * hidden) * real[..., None]), hidden

    hidden, found = gradients(model, call, flat, real.reshape(flat.shape))
    taken = hidden.reshape(*rows.shape, -1)
    parts = [taken[:, i, PROMPT : PROMPT + length] for i, length in enumerate(THOUGHTS)]
    return np.concatenate(parts, axis=1), found


@pytest.mark.parametrize("options", [{}, {"attention_block": 4, "attention_by_row": True}])
def test_one_row_equals_a_row_for_each_thought(options: dict[str, Any]) -> None:
    expected, expected_gradients = in_own_rows(build())
    hidden, found = in_one_row(build(**options))
    np.testing.assert_allclose(hidden, expected, atol=2e-5)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected_gradients), strict=True):
        assert np.linalg.norm(one - other) <= 5e-5 * np.linalg.norm(other)


def test_over_a_mesh_it_is_the_same() -> None:
    mesh = make_mesh_context(MeshConfig(data=2, tensor=2), devices=jax.devices()[:4])
    hidden, _ = in_one_row(build(TINY, mesh))
    np.testing.assert_allclose(hidden, in_one_row(build())[0], atol=2e-5)


def test_thoughts_do_not_see_each_other_and_the_prompt_sees_none_of_them() -> None:
    model, (ids, positions, segments) = build(), packed()

    def hidden(ids: np.ndarray) -> np.ndarray:
        def call(decoder: Decoder, *arrays: Any) -> Any:
            ids, positions, segments = arrays
            return forward(decoder, ids, positions, segment_ids=segments, shared_prefix=True)

        return np.asarray(model.run(call, *map(model.place, (ids, positions, segments))))

    changed = ids.copy()
    changed[:, PROMPT] = (ids[:, PROMPT] + 1) % TINY.vocab_size
    apart = np.abs(hidden(ids) - hidden(changed)).max(axis=(0, 2))
    first = np.arange(apart.size) >= PROMPT
    first &= np.arange(apart.size) < PROMPT + THOUGHTS[0]
    assert apart[~first].max() < 1e-6
    assert apart[first].min() > 1e-3


@pytest.mark.parametrize(
    ("backend", "window", "with_segments", "message"),
    [
        ("splash", 0, True, "splash attention cannot share one prefix"),
        ("xla", 3, True, "sliding window"),
        ("xla", 0, False, "needs segment_ids"),
    ],
)
def test_what_it_cannot_do_is_refused(
    backend: str, window: int, with_segments: bool, message: str
) -> None:
    q, k = (jnp.zeros((1, 128, heads, 4)) for heads in (4, 2))
    segments = jnp.zeros((1, 128), jnp.int32) if with_segments else None
    with single_device_mesh_context().activate(), pytest.raises(UnsupportedError, match=message):
        causal_attention(
            q,
            k,
            k,
            AttentionMask(window=window, segment_ids=segments, shared_prefix=True),
            options=ModelOptions(attention=backend, attention_block=4),
            rules=ShardingRules(),
        )


def test_a_decoder_with_windows_refuses_it() -> None:
    ids, positions, segments = packed()
    model = build(tiny(windows=(0, 5)))

    def call(decoder: Decoder, ids: Any, positions: Any, segments: Any) -> Any:
        return forward(decoder, ids, positions, segment_ids=segments, shared_prefix=True)

    with pytest.raises(UnsupportedError, match="sliding window"):
        model.run(call, *map(model.place, (ids, positions, segments)))
