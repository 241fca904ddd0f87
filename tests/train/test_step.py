"""One step is one gradient of one objective, however it is cut up and wherever it runs."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError
from t1_jax.model import LoraConfig
from t1_jax.parallel import count_compilations
from t1_jax.train.layout import MicroBatchConfig
from t1_jax.train.losses import PolicyConfig
from t1_jax.train.optimizer import Optimizer
from t1_jax.train.row_builder import num_completion_tokens
from t1_jax.train.step import step_embeddings, step_logps, train_step
from tests.model.tiny import COMPILE_FAST, TINY
from tests.train.toy_steps import (
    PLAIN,
    TEMPERATURE,
    UNTIED,
    Problem,
    assert_alike,
    mesh_of,
    numbers,
    parts_and_weights,
    problem,
    stepped,
)

PROBLEM = problem()
WHOLE = MicroBatchConfig(rows=16, tokens=1024, length_step=32)
THREES = MicroBatchConfig(rows=3, tokens=1024, length_step=32)


def direct(whole: Problem, config: Any) -> tuple[Any, dict[str, float]]:
    """Weights after `PLAIN`'s first update by the objective's own gradient, and the losses."""
    parts, trained = parts_and_weights(config=config)

    def loss(trained: nnx.State) -> Any:
        return whole.plain_loss(nnx.merge(parts.graphdef, trained, parts.frozen))

    with parts.mesh_context.activate():
        compiled = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE_FAST)
        gradients, losses = jax.device_get(compiled(trained))
    moved = jax.tree.map(lambda w, g: w - g / (abs(g) + 1.0), jax.device_get(trained), gradients)
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
        (THREES, True),
        (MicroBatchConfig(rows=16, tokens=32, length_step=32), False),
        (replace(THREES, keep_residuals=True), True),
    ],
    ids=["one-each", "threes-shuffled", "one-row-each", "held"],
)
def test_any_cut_into_micro_batches_is_the_gradient_of_the_whole_objective(
    micro: MicroBatchConfig, shuffled: bool, expected: tuple[Any, dict[str, float]]
) -> None:
    model = parts_and_weights(config=UNTIED)
    batch = PROBLEM.batch(model[0].mesh_context, micro, shuffled=shuffled)
    if micro is not WHOLE:
        assert len(batch.micro_batches) >= 5
    constants = PROBLEM.constants(keep_residuals=micro.keep_residuals)
    assert_equals_direct(stepped(model, batch, constants), expected)


@pytest.mark.parametrize(
    "micro", [WHOLE, replace(WHOLE, keep_residuals=True)], ids=["one-each", "held"]
)
def test_eight_devices_take_the_step_of_one(
    micro: MicroBatchConfig, expected: tuple[Any, dict[str, float]]
) -> None:
    model = parts_and_weights(mesh_of(2, 2, 2), UNTIED)
    constants = PROBLEM.constants(keep_residuals=micro.keep_residuals)
    found = stepped(model, PROBLEM.batch(model[0].mesh_context, micro), constants)
    assert_equals_direct(found, expected)
    for leaf, before in zip(
        jax.tree.leaves(found.state.trained), jax.tree.leaves(model[1]), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(before.sharding, leaf.ndim)


def test_a_nan_on_one_device_is_an_update_that_no_device_makes() -> None:
    model = parts_and_weights(mesh_of(2, 2, 2), UNTIED)
    advantages = PROBLEM.advantages.copy()
    advantages[0, 0] = np.nan  # one thought, in the rows of two of eight devices
    bad = replace(PROBLEM, advantages=advantages)
    state, metrics, _ = stepped(model, bad.batch(model[0].mesh_context, WHOLE), bad.constants())
    assert not np.isfinite(metrics["grad_norm"])
    assert metrics["skipped_updates"] == 1
    for after, before in zip(
        jax.tree.leaves(state.trained), jax.tree.leaves(model[1]), strict=True
    ):
        for shard, other in zip(after.addressable_shards, before.addressable_shards, strict=True):
            np.testing.assert_array_equal(shard.data, other.data)


def test_thoughts_behind_one_prompt_are_thoughts_in_rows_of_their_own() -> None:
    groups = problem(queries=0, documents=8, seed=3)
    model = parts_and_weights(config=UNTIED)
    mesh_context = model[0].mesh_context
    results, vectors = [], []
    for shared in (True, False):
        batch = groups.batch(mesh_context, WHOLE, shared=shared)
        with mesh_context.activate():
            vectors.append(step_embeddings(*model, batch))
        results.append(stepped(model, batch, groups.constants()))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    (state, metrics, _), (other, others, _) = results
    assert metrics == pytest.approx(others, rel=1e-4, abs=1e-5)
    assert_alike(state.trained, other.trained)


def test_adapters_alone_learn() -> None:
    parts, trained = parts_and_weights(config=TINY, lora=LoraConfig(rank=2))
    frozen = numbers(parts.frozen)
    whole = problem(groups=0, documents=6)
    batch = whole.batch(parts.mesh_context, WHOLE)
    state, metrics, _ = stepped((parts, trained), batch, whole.constants())
    before, after = numbers(trained), numbers(state.trained)
    assert all("lora" in path or "row" in path for path in after)
    moved = {path.split("'")[-2] for path in after if (after[path] != before[path]).any()}
    assert moved == {"b", "delta"}  # A has no gradient while B is 0
    assert metrics["grad_norm"] > 0
    for path, value in numbers(parts.frozen).items():
        np.testing.assert_array_equal(value, frozen[path], err_msg=path)


def test_later_updates_compare_with_the_policy_before_and_with_the_reference() -> None:
    whole = replace(
        problem(queries=0, documents=8, seed=4),
        policy=PolicyConfig(
            loss="dapo",
            beta=0.3,
            sampler_is_cap=4.0,
            sampler_is_mode="token_mask",
            use_bias_correction_kl=True,
            entropy_coef=0.2,
        ),
    )
    model = parts_and_weights()
    parts, trained = model
    batch = whole.batch(parts.mesh_context, WHOLE)
    with parts.mesh_context.activate():
        elsewhere = jax.jit(
            lambda tree: jax.tree.map(lambda leaf: leaf + 0.02 * jnp.sin(leaf * 99), tree)
        )(trained)
        reference = step_logps(parts, elsewhere, batch, temperature=TEMPERATURE)
        now = step_logps(parts, trained, batch, temperature=TEMPERATURE)
        before = [jax.jit(lambda x: x + 0.3 * jnp.cos(x * 50))(logps) for logps in now]
    later = batch.with_logps(reference=reference).with_logps(old=before)
    constants = whole.constants()
    constants = replace(constants, tokens=replace(constants.tokens, on_policy=False))
    targets = [placed.arrays.targets for placed in later.micro_batches]
    assert [each.old_logps is not None for each in targets] == [True, False]
    _, metrics, logps = stepped(model, later, constants)
    arrays = {name: np.asarray(x) for name, x in vars(targets[0]).items() if x is not None}
    expected = kl = gap = capped = 0.0
    for at in np.argwhere(arrays["policy_weights"] > 0):
        now, old, sampler, base, advantage = (
            float(array[tuple(at)])
            for array in (
                np.asarray(logps[0]),
                *(
                    arrays[name]
                    for name in ("old_logps", "sampler_logps", "ref_logps", "advantages")
                ),
            )
        )
        ratio = np.exp(now - old)
        objective = min(ratio * advantage, np.clip(ratio, 0.8, 1.28) * advantage)
        divergence = ratio * (np.exp(base - now) - (base - now) - 1)
        weight = np.exp(old - sampler) if 1 / 4 <= np.exp(old - sampler) <= 4 else 0.0
        expected += -weight * objective + 0.3 * divergence
        capped += weight == 0
        kl, gap = kl + divergence, gap + abs(old - sampler)
    count = int((arrays["policy_weights"] > 0).sum())
    assert count == sum(num_completion_tokens(one) for _, group in whole.groups for one in group)
    expected -= 0.2 * metrics["rollout/entropy"] * count
    assert metrics["loss/policy"] == pytest.approx(whole.policy_weight * expected, rel=1e-4)
    assert 0 < capped < count
    assert metrics["policy/sampler_capped"] == pytest.approx(capped / count)
    assert metrics["policy/kl"] == pytest.approx(kl / count, rel=1e-4)
    assert metrics["rollout/log_prob_gap"] == pytest.approx(gap / count, rel=1e-4)
    assert 0 < metrics["policy/clipped"] < 1


def test_a_policy_loss_without_its_reference_is_refused() -> None:
    whole = replace(problem(queries=0, documents=8), policy=PolicyConfig(loss="grpo", beta=0.1))
    model = parts_and_weights()
    batch = whole.batch(model[0].mesh_context, WHOLE)
    with pytest.raises(ConfigError, match="beta=0.1 needs log-probabilities under the reference"):
        stepped(model, batch, whole.constants())


def test_groups_that_are_not_kept_teach_nothing_and_measure_nothing() -> None:
    whole = replace(problem(queries=0, documents=8), policy_weight=0.0)
    model = parts_and_weights()
    batch = replace(whole.batch(model[0].mesh_context, WHOLE), plan=None)
    state, metrics, _ = stepped(model, batch, whole.constants())
    assert metrics["loss/policy"] == metrics["grad_norm"] == 0
    assert not {"rollout/entropy", "rollout/log_prob_gap"} & metrics.keys()
    assert_alike(state.trained, model[1], atol=0)


def test_hundreds_of_queries_take_four_programs_of_sixteen_rows() -> None:
    parts, trained = parts_and_weights()
    micro = MicroBatchConfig(rows=16, tokens=512, length_step=32)
    optimizer = Optimizer(PLAIN, steps=10)
    many = [problem(queries=256, groups=0, documents=258, seed=seed) for seed in range(2)]
    batches = [one.batch(parts.mesh_context, micro) for one in many]
    constants = many[0].constants()
    assert {placed.arrays.tokens.shape for placed in batches[0].micro_batches} == {(16, 32)}
    with parts.mesh_context.activate():
        state = optimizer.start(trained)
        with count_compilations() as first:
            state, metrics, _ = train_step(parts, optimizer, constants, state, batches[0])
        with count_compilations() as second:
            train_step(parts, optimizer, constants, state, batches[1])
    assert 0 < first.of["embed"] <= 2
    assert 0 < first.of["accumulate_gradients"] <= 2
    assert second.count == 0
    # Untrained vectors are nearly as close to one document as to another.
    assert 0.5 * np.log(200) < metrics["loss/infonce"] < 3 * np.log(258)


def test_imitation_falls_as_steeply_as_its_gradient_says() -> None:
    """Finite differences of the loss along the gradient, without autodiff."""
    only = replace(PROBLEM, groups=[], advantages=PROBLEM.advantages[:0])
    parts, trained = parts_and_weights(config=UNTIED)
    batch = replace(only.batch(parts.mesh_context, WHOLE), plan=None)
    state, metrics, _ = stepped((parts, trained), batch, only.constants())
    old, new = jax.device_get((trained, state.trained))
    moves = jax.tree.map(lambda new, old: old - new, new, old)
    gradients = jax.tree.map(lambda move: move / (1.0 - abs(move)), moves)
    norm = float(np.sqrt(sum(np.sum(np.square(g)) for g in numbers(gradients).values())))
    assert norm == pytest.approx(metrics["grad_norm"], rel=1e-3)

    weights = [placed.arrays.targets.sft_weights for placed in batch.micro_batches]
    weight = sum(float(np.sum(each)) for each in weights if each is not None)

    def loss(distance: float) -> float:
        moved = jax.tree.map(
            lambda w, g, like: jax.device_put(w + distance / norm * g, like.sharding),
            old,
            gradients,
            trained,
        )
        return stepped((parts, moved), batch, only.constants()).metrics["loss/sft"] * weight

    reach = 0.02
    assert (loss(reach) - loss(-reach)) / (2 * reach) == pytest.approx(norm, rel=0.01)
