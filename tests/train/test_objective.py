"""Log-probabilities of targets are those of a plain softmax, in whatever chunks."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.model import Decoder
from t1_jax.train.objective import CHUNK, token_log_probs
from tests.model.tiny import COMPILE_FAST, Model, build, tiny

UNTIED = tiny(tie_embeddings=False)
ROWS = 3


@pytest.fixture(scope="module")
def model() -> Model:
    return build(UNTIED)


def drawn(count: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(count)
    hidden = rng.standard_normal((ROWS, count, UNTIED.embed_dim)).astype(np.float32)
    return hidden, rng.integers(0, UNTIED.vocab_size, (ROWS, count), dtype=np.int32)


def plain_log_probs(model: Model, hidden: np.ndarray, temperature: float) -> np.ndarray:
    """In float64, over the tokens there are."""
    logits = np.asarray(
        model.run(lambda decoder, states: decoder.logits(states), model.place(hidden, "bld")),
        np.float64,
    )
    scaled = logits[..., : UNTIED.vocab_size] / temperature
    assert np.isneginf(logits[..., UNTIED.vocab_size :]).all()
    assert logits.shape[-1] > UNTIED.vocab_size
    return scaled - np.log(np.exp(scaled).sum(axis=-1, keepdims=True))


@pytest.mark.parametrize(("count", "temperature"), [(10, 1.0), (2 * CHUNK + 5, 0.7)])
def test_values_are_those_of_a_plain_softmax(model: Model, count: int, temperature: float) -> None:
    hidden, targets = drawn(count)

    def call(decoder: Decoder, *arrays: jax.Array) -> tuple[jax.Array, jax.Array]:
        return token_log_probs(decoder, *arrays, temperature=temperature)

    log_probs, entropy = model.run(call, model.place(hidden, "bld"), model.place(targets))
    expected = plain_log_probs(model, hidden, temperature)
    picked = np.take_along_axis(expected, targets[..., None], axis=-1)[..., 0]
    np.testing.assert_allclose(log_probs, picked, atol=1e-5)
    np.testing.assert_allclose(entropy, -(np.exp(expected) * expected).sum(-1), atol=1e-5)


@pytest.mark.parametrize("bonus", [False, True])
def test_gradients_are_those_of_plain_autodiff(model: Model, bonus: bool) -> None:
    """The entropy has one where it is asked for, and is else a constant."""
    hidden, targets = drawn(CHUNK + 6)
    weights = np.random.default_rng(1).standard_normal(targets.shape).astype(np.float32)
    graph, params, rest = nnx.split(model.decoder, nnx.Param, ...)

    def ours(params: nnx.State, hidden: jax.Array, ids: jax.Array) -> jax.Array:
        decoder = nnx.merge(graph, params, rest)
        log_probs, entropy = token_log_probs(
            decoder, hidden, ids, temperature=0.7, entropy_gradient=bonus
        )
        return jnp.sum(weights * log_probs) + 10 * jnp.sum(entropy)

    def plain(params: nnx.State, hidden: jax.Array, ids: jax.Array) -> jax.Array:
        logits = nnx.merge(graph, params, rest).logits(hidden)[..., : UNTIED.vocab_size] / 0.7
        chosen = jax.nn.one_hot(ids, UNTIED.vocab_size)
        log_probs = jax.nn.log_softmax(logits)
        entropy = -jnp.sum(jnp.exp(log_probs) * log_probs)
        picked = jnp.sum(weights * jnp.sum(log_probs * chosen, axis=-1))
        return picked + 10 * entropy if bonus else picked

    found: list[Any] = []
    with model.mesh_context.activate():
        for loss in (ours, plain):
            gradient = jax.jit(jax.grad(loss, argnums=(0, 1)), compiler_options=COMPILE_FAST)
            found.append(gradient(params, model.place(hidden, "bld"), model.place(targets)))
    for one, other in zip(*map(jax.tree.leaves, found), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4 * (1 + 9 * bonus))
    assert max(np.abs(leaf).max() for leaf in jax.tree.leaves(found[0])) > 0.1
