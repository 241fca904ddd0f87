"""Masters, schedules, clipping, decay, average, and gradients that are no numbers."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model import LoraConfig
from t1_jax.train.optimizer import Optimizer, OptimizerConfig, TrainState, learning_rate_schedule
from tests.model.tiny import tiny
from tests.train.toy_steps import mesh_of, numbers, parts_and_weights

STEPS = 10
BIASED = tiny(qkv_bias=True, qk_norm=True, tie_embeddings=False)


def state_of(**arrays: Any) -> nnx.State:
    """Weights by name, each in a projection of its own."""
    return nnx.State(
        {name: {"kernel": nnx.Param(jnp.asarray(x, jnp.float32))} for name, x in arrays.items()}
    )


def value(state: nnx.State, name: str = "w") -> np.ndarray:
    return np.asarray(jax.tree.leaves(state[name])[0])


def updated(
    config: OptimizerConfig, gradients: list[Any], start: Any = (1.0, -2.0)
) -> tuple[TrainState, list[dict[str, float]]]:
    """The state after these gradients of one weight."""
    optimizer = Optimizer(config, STEPS)
    state, all_measures = optimizer.start(state_of(w=start)), []
    for gradient in gradients:
        state, metrics = optimizer.apply(state, state_of(w=gradient))
        all_measures.append({name: float(x) for name, x in metrics.items()})
    return state, all_measures


@pytest.mark.parametrize(
    ("schedule", "min_lr_ratio", "expected"),
    [
        ("constant", 0.0, [1 / 3, 2 / 3, 1, 1, 1, 1, 1, 1, 1, 1]),
        ("linear", 0.2, [1 / 3, 2 / 3, 1, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3]),
        ("cosine", 0.0, [1 / 3, 2 / 3, *((1 + np.cos(np.pi * np.arange(8) / 8)) / 2)]),
        ("cosine", 0.1, [1 / 3, 2 / 3, *(0.55 + 0.45 * np.cos(np.pi * np.arange(8) / 8))]),
    ],
)
def test_schedules_rise_above_zero_and_fall(
    schedule: Any, min_lr_ratio: float, expected: list[float]
) -> None:
    config = OptimizerConfig(
        learning_rate=2e-4, schedule=schedule, warmup_ratio=0.2, min_lr_ratio=min_lr_ratio
    )
    rate = learning_rate_schedule(config, STEPS)
    rates = [float(jnp.asarray(rate(step))) for step in range(STEPS)]
    np.testing.assert_allclose(rates, 2e-4 * np.array(expected), rtol=1e-5)


def test_a_stage_of_one_step_and_one_of_nothing_but_warm_up_learn() -> None:
    for warmup, steps, expected in ((0.03, 1, [1.0]), (1.0, 3, [0.25, 0.5, 0.75])):
        config = OptimizerConfig(learning_rate=1.0, schedule="constant", warmup_ratio=warmup)
        rate = learning_rate_schedule(config, steps)
        np.testing.assert_allclose([float(jnp.asarray(rate(n))) for n in range(steps)], expected)


def test_updates_are_those_of_adamw() -> None:
    config = OptimizerConfig(
        learning_rate=0.1,
        schedule="linear",
        warmup_ratio=0.0,
        weight_decay=0.3,
        beta1=0.8,
        beta2=0.9,
        epsilon=1e-3,
        clip_norm=0.0,
    )
    gradients = np.random.default_rng(0).standard_normal((4, 2))
    state, _ = updated(config, list(gradients))
    weight = np.array([1.0, -2.0])
    mean = square = np.zeros(2)
    for step, gradient in enumerate(gradients):
        mean = 0.8 * mean + 0.2 * gradient
        square = 0.9 * square + 0.1 * gradient**2
        fixed = mean / (1 - 0.8 ** (step + 1))
        spread = np.sqrt(square / (1 - 0.9 ** (step + 1)))
        weight = weight - 0.1 * (1 - step / STEPS) * (fixed / (spread + 1e-3) + 0.3 * weight)
    np.testing.assert_allclose(value(state.trained), weight, rtol=1e-5)
    assert state.step == 4
    assert state.average is None
    assert state.best_weights is state.trained


def test_clipping_scales_the_whole_gradient_and_its_norm_is_told_before() -> None:
    # With a large epsilon and no memory the update is nearly rate * gradient / epsilon.
    config = OptimizerConfig(
        learning_rate=1e4,
        schedule="constant",
        warmup_ratio=0.0,
        epsilon=1e4,
        beta1=0.0,
        beta2=0.0,
        clip_norm=1.0,
    )
    state, (metrics,) = updated(config, [(30.0, -40.0)], start=(0.0, 0.0))
    np.testing.assert_allclose(value(state.trained), [-0.6, 0.8], rtol=1e-3)
    assert metrics["grad_norm"] == pytest.approx(50.0)
    small, _ = updated(config, [(0.03, -0.04)], start=(0.0, 0.0))
    np.testing.assert_allclose(value(small.trained), [-0.03, 0.04], rtol=1e-3)


def test_matrices_decay_and_norms_biases_and_lone_vectors_do_not() -> None:
    config = OptimizerConfig(
        learning_rate=0.5, schedule="constant", warmup_ratio=0.0, weight_decay=0.2
    )
    for lora in (None, LoraConfig(rank=2)):
        model, trained = parts_and_weights(config=BIASED, lora=lora)
        with model.mesh_context.activate():
            trained = jax.tree.map(jnp.ones_like, trained)
            optimizer = Optimizer(config, STEPS)
            gradients = jax.tree.map(jnp.zeros_like, trained)
            before = set(numbers(trained))
            state, _ = optimizer.apply(optimizer.start(trained), gradients)
        after = numbers(state.trained)
        assert after.keys() == before
        decayed = {path.split("'")[-2] for path, x in after.items() if (x != 1.0).any()}
        kept = {path.split("'")[-2] for path, x in after.items() if (x == 1.0).all()}
        if lora is None:
            assert (decayed, kept) == ({"kernel", "table"}, {"scale", "bias"})
        else:
            assert (decayed, kept) == ({"a", "b"}, {"delta"})
        np.testing.assert_allclose(
            np.concatenate([x.ravel() for x in after.values() if (x != 1.0).any()]), 0.9
        )


def test_the_average_follows_the_weights_and_is_what_is_evaluated() -> None:
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", warmup_ratio=0.0, ema=0.75)
    optimizer = Optimizer(config, STEPS)
    state = optimizer.start(state_of(w=(1.0, -2.0)))
    average = value(state.trained).copy()
    for gradient in ((1.0, 1.0), (-0.5, 1.0)):
        state, _ = optimizer.apply(state, state_of(w=gradient))
        average = 0.75 * average + 0.25 * value(state.trained)
        assert state.average is not None
        np.testing.assert_allclose(value(state.average), average, rtol=1e-6)
    assert state.best_weights is state.average


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e38])  # the norm of the last overflows
def test_a_gradient_that_is_no_number_changes_nothing(bad: float) -> None:
    config = OptimizerConfig(learning_rate=0.1, schedule="linear", warmup_ratio=0.0, ema=0.5)
    state, metrics = updated(config, [(1.0, 0.5), *[(bad, 1.0)] * 5, (0.3, -1.0)])
    straight, expected = updated(config, [(1.0, 0.5), (0.3, -1.0)])
    assert not np.isfinite(metrics[1]["grad_norm"])
    assert [each["skipped_updates"] for each in metrics] == [0, 1, 2, 3, 4, 5, 5]
    assert [each["skipped_in_a_row"] for each in metrics] == [0, 1, 2, 3, 4, 5, 0]
    assert metrics[-1]["learning_rate"] == pytest.approx(expected[-1]["learning_rate"])
    np.testing.assert_array_equal(value(state.trained), value(straight.trained))
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(state))
    inner = (state.optimizer.inner_state, straight.optimizer.inner_state)
    for one, other in zip(*map(jax.tree.leaves, inner), strict=True):
        np.testing.assert_array_equal(one, other)
    assert state.step == 7


def test_masters_are_float32_while_activations_are_bfloat16() -> None:
    model, trained = parts_and_weights(dtype="bfloat16")
    with model.mesh_context.activate():
        state = Optimizer(OptimizerConfig(ema=0.9), STEPS).start(trained)
    floats = [leaf for leaf in jax.tree.leaves(state) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    assert {leaf.dtype for leaf in floats} == {jnp.dtype("float32")}
    model, low = parts_and_weights(param_dtype="bfloat16")
    with pytest.raises(UnsupportedError, match="must be float32, one is bfloat16"):
        Optimizer(OptimizerConfig(), STEPS).start(low)


def test_moments_lie_where_their_weights_do() -> None:
    model, trained = parts_and_weights(mesh_of(2, 2, 2))
    with model.mesh_context.activate():
        state = Optimizer(OptimizerConfig(ema=0.9), STEPS).start(trained)
    shapes = {leaf.shape: leaf.sharding for leaf in jax.tree.leaves(trained)}
    found = jax.tree.leaves((state.optimizer, state.average))
    assert len(found) > 3 * len(jax.tree.leaves(trained))
    for leaf in found:
        if leaf.ndim:
            assert leaf.sharding.is_equivalent_to(shapes[leaf.shape], leaf.ndim)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"learning_rate": 0.0}, "learning_rate must be above 0, got 0.0"),
        ({"warmup_ratio": 1.5}, "warmup_ratio must be from 0 to 1"),
        ({"min_lr_ratio": -0.1}, "min_lr_ratio must be from 0 to 1"),
        ({"weight_decay": -1.0}, "weight_decay must be at least 0"),
        ({"beta1": 1.0}, "beta1 must be from 0 to below 1"),
        ({"beta2": -0.1}, "beta2 must be"),
        ({"epsilon": 0.0}, "epsilon must be above 0"),
        ({"clip_norm": -1.0}, "clip_norm must be at least 0"),
        ({"ema": 1.0}, "ema must be between 0 and 1, got 1.0"),
        ({"learning_rate": float("nan")}, "learning_rate must be above 0, got nan"),
    ],
)
def test_numbers_out_of_range_are_refused(fields: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        OptimizerConfig(**fields)  # pyright: ignore[reportArgumentType]
