"""One step is one gradient of one objective, however it is cut up and wherever it runs."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from t1_jax.train.batch import MicroBatchConfig
from t1_jax.train.step import step_vectors
from tests.model.tiny import COMPILE_FAST, TINY
from tests.train.toy_steps import (
    UNTIED,
    Problem,
    assert_alike,
    learner,
    mesh_of,
    problem,
    stepped,
)

PROBLEM = problem()
WHOLE = MicroBatchConfig(rows=16, tokens=1024, length_step=32)


def direct(whole: Problem, config: Any) -> tuple[Any, dict[str, float]]:
    """Weights after `PLAIN`'s first update by the objective's own gradient, and the losses."""
    model, trained = learner(config=config)

    def loss(trained: nnx.State) -> Any:
        return whole.objective(nnx.merge(model.graph, trained, model.frozen))

    with model.placement.entered():
        compiled = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE_FAST)
        gradients, losses = compiled(trained)
    moved = jax.tree.map(lambda w, g: w - g / (abs(g) + 1.0), trained, gradients)
    return moved, {name: float(value) for name, value in losses.items()}


@pytest.fixture(scope="module")
def expected() -> tuple[Any, dict[str, float]]:
    return direct(PROBLEM, UNTIED)


def assert_equals_direct(
    found: tuple[Any, dict[str, float], Any], expected: tuple[Any, dict[str, float]]
) -> None:
    state, metrics, _ = found
    weights, losses = expected
    for name, value in losses.items():
        assert metrics[name] == pytest.approx(value, rel=1e-4, abs=1e-5), name
    assert_alike(state.trained, weights)


@pytest.mark.parametrize(
    ("micro", "shuffled"),
    [
        (WHOLE, False),
        (MicroBatchConfig(rows=3, tokens=1024, length_step=32), True),
        (MicroBatchConfig(rows=16, tokens=64, length_step=8), False),
    ],
    ids=["one-each", "threes-shuffled", "by-tokens"],
)
def test_any_cut_into_micro_batches_is_the_gradient_of_the_whole_objective(
    micro: MicroBatchConfig, shuffled: bool, expected: tuple[Any, dict[str, float]]
) -> None:
    learned = learner(config=UNTIED)
    batch = PROBLEM.batch(learned[0].placement, micro, shuffled=shuffled)
    if micro is not WHOLE:
        assert len(batch.micro) >= 5
    assert_equals_direct(stepped(learned, batch), expected)


@pytest.mark.parametrize("mesh", [(8, 1, 1), (2, 4, 1), (2, 2, 2)])
def test_eight_devices_take_the_step_of_one(
    mesh: tuple[int, int, int], expected: tuple[Any, dict[str, float]]
) -> None:
    learned = learner(mesh_of(*mesh), UNTIED)
    found = stepped(learned, PROBLEM.batch(learned[0].placement, WHOLE))
    assert_equals_direct(found, expected)
    for leaf, before in zip(
        jax.tree.leaves(found[0].trained), jax.tree.leaves(learned[1]), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(before.sharding, leaf.ndim)
