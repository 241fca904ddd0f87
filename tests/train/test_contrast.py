"""The losses between a step's vectors reach every vector with its own gradient."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.train.config import LossWeights
from t1_jax.train.contrast import ContrastPlan, contrast
from tests.train.toy_steps import CONTRASTIVE, WEIGHTS, mesh_of, plain_contrast

VECTORS = np.random.default_rng(0).standard_normal((10, 6)).astype(np.float32)
VECTORS /= np.linalg.norm(VECTORS, axis=1, keepdims=True)
PLAN = ContrastPlan(
    queries=np.array([0, 4, 1], np.int32),
    candidates=np.array([9, 5, 6, 7], np.int32),
    positive=np.array([1, 0, 1], np.int32),
    negatives=np.array([[3, -1], [2, 3], [-1, -1]], np.int32),
    allowed=np.array([[1, 1, 0, 1], [1, 1, 1, 1], [1, 1, 1, 1]], bool),
    groups=np.array([0, 1, 0], np.int32),
)


@jax.jit
@functools.partial(jax.grad, has_aux=True)
def plain(
    vectors: jax.Array, infonce_weight: jax.Array, triplet_weight: jax.Array
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    infonce, margins = plain_contrast(vectors[PLAN.queries], vectors[PLAN.candidates], PLAN)
    return infonce_weight * infonce + triplet_weight * margins, (infonce, margins)


def expected(weights: LossWeights = WEIGHTS) -> tuple[np.ndarray, float, float]:
    """Gradients, InfoNCE and the triplet loss, query by query."""
    found, (infonce, margins) = plain(jnp.asarray(VECTORS), weights.infonce, weights.triplet)
    return np.asarray(found), float(infonce), float(margins)


def contrasted(
    plan: ContrastPlan, weights: LossWeights = WEIGHTS, vectors: np.ndarray = VECTORS
) -> tuple[dict[str, jax.Array], jax.Array]:
    return contrast(
        vectors,
        plan,
        config=CONTRASTIVE,
        infonce_weight=weights.infonce,
        triplet_weight=weights.triplet,
    )


@pytest.mark.parametrize("padded", [False, True])
def test_losses_and_gradients_of_all_vectors(padded: bool) -> None:
    plan = PLAN.padded(7, 9) if padded else PLAN
    losses, grads = contrasted(plan)
    wanted, infonce, margins = expected()
    assert losses["loss/infonce"] == pytest.approx(infonce, rel=1e-5)
    assert losses["loss/triplet"] == pytest.approx(margins, rel=1e-5)
    np.testing.assert_allclose(grads, wanted, atol=1e-5)
    moved = np.asarray(grads).any(axis=1)
    assert np.flatnonzero(~moved).tolist() == [2, 3, 8]
    # Queries 0 and 2 are thoughts of one query, so that two pairs are of different ones.
    a, b, c = VECTORS[PLAN.queries]
    assert losses["embedding/mean_cosine"] == pytest.approx((a @ b + c @ b) / 2, abs=1e-5)


def test_a_vector_that_is_asked_and_answers_gets_both_gradients() -> None:
    both = ContrastPlan(
        queries=np.array([0, 1], np.int32),
        candidates=np.array([1, 0], np.int32),
        positive=np.array([0, 1], np.int32),
        negatives=np.full((2, 0), -1, np.int32),
        allowed=np.ones((2, 2), bool),
        groups=np.arange(2, dtype=np.int32),
    )

    @jax.jit
    @jax.grad
    def gradient(vectors: jax.Array) -> jax.Array:
        return plain_infonce(vectors, both)

    _, grads = contrasted(both, LossWeights(infonce=1.0), VECTORS[:2])
    np.testing.assert_allclose(grads, gradient(jnp.asarray(VECTORS[:2])), atol=1e-5)


def plain_infonce(vectors: jax.Array, plan: ContrastPlan) -> jax.Array:
    scores = vectors[plan.queries] @ vectors[plan.candidates].T / CONTRASTIVE.temperature
    own = jnp.diagonal(scores[:, plan.positive])
    return jnp.mean(jax.nn.logsumexp(scores, axis=1) - own)


@pytest.mark.parametrize("name", ["infonce", "triplet"])
def test_a_loss_without_a_weight_is_not_computed(name: str) -> None:
    weights = LossWeights(**{name: 0.5})
    losses, grads = contrasted(PLAN, weights)
    assert [key for key in losses if key.startswith("loss/")] == [f"loss/{name}"]
    np.testing.assert_allclose(grads, expected(weights)[0], atol=1e-5)


def test_a_mesh_changes_nothing() -> None:
    wanted, alone = contrasted(PLAN)
    with mesh_of(2, 2, 2).activate():
        losses, grads = contrasted(PLAN)
    found = jax.tree.map(float, losses)
    assert found == pytest.approx(jax.tree.map(float, wanted), rel=1e-5)
    np.testing.assert_allclose(grads, alone, atol=1e-6)


def test_nothing_hard_and_nothing_counted_is_no_number_missing() -> None:
    without = ContrastPlan(**{**PLAN.__dict__, "negatives": np.full((3, 2), -1, np.int32)})
    losses, _ = contrasted(without)
    assert losses["loss/triplet"] == 0
