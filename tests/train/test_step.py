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
from t1_jax.train.batch import MicroBatchConfig
from t1_jax.train.losses import PolicyConfig
from t1_jax.train.optimizer import Optimizer
from t1_jax.train.rows import actions_of
from t1_jax.train.step import step_log_probs, step_vectors, train_step, with_columns
from tests.model.tiny import COMPILE_FAST, TINY
from tests.train.toy_steps import (
    PLAIN,
    UNTIED,
    Problem,
    assert_alike,
    learner,
    mesh_of,
    numbers,
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

    with model.mesh_context.activate():
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
        (MicroBatchConfig(rows=16, tokens=32, length_step=32), False),
        (MicroBatchConfig(rows=3, tokens=1024, length_step=32, hold=True), True),
    ],
    ids=["one-each", "threes-shuffled", "one-row-each", "held"],
)
def test_any_cut_into_micro_batches_is_the_gradient_of_the_whole_objective(
    micro: MicroBatchConfig, shuffled: bool, expected: tuple[Any, dict[str, float]]
) -> None:
    learned = learner(config=UNTIED)
    batch = PROBLEM.batch(learned[0].mesh_context, micro, shuffled=shuffled)
    if micro is not WHOLE:
        assert len(batch.micro) >= 5
    assert_equals_direct(stepped(learned, batch), expected)


@pytest.mark.parametrize(
    ("mesh", "micro"),
    [
        ((8, 1, 1), WHOLE),
        ((2, 2, 2), WHOLE),
        ((2, 2, 2), MicroBatchConfig(rows=8, tokens=1024, length_step=32, hold=True)),
    ],
)
def test_eight_devices_take_the_step_of_one(
    mesh: tuple[int, int, int],
    micro: MicroBatchConfig,
    expected: tuple[Any, dict[str, float]],
) -> None:
    learned = learner(mesh_of(*mesh), UNTIED)
    found = stepped(learned, PROBLEM.batch(learned[0].mesh_context, micro))
    assert_equals_direct(found, expected)
    for leaf, before in zip(
        jax.tree.leaves(found[0].trained), jax.tree.leaves(learned[1]), strict=True
    ):
        assert leaf.sharding.is_equivalent_to(before.sharding, leaf.ndim)


def test_thoughts_behind_one_prompt_are_thoughts_in_rows_of_their_own() -> None:
    groups = problem(queries=0, documents=8, seed=3)
    learned = learner(config=UNTIED)
    mesh_context = learned[0].mesh_context
    results, vectors = [], []
    for shared in (True, False):
        batch = groups.batch(mesh_context, WHOLE, shared=shared)
        with mesh_context.activate():
            vectors.append(step_vectors(*learned, batch))
        results.append(stepped(learned, batch))
    np.testing.assert_allclose(vectors[0], vectors[1], atol=1e-5)
    (state, metrics, _), (other, others, _) = results
    assert metrics == pytest.approx(others, rel=1e-4, abs=1e-5)
    assert_alike(state.trained, other.trained)


def test_adapters_alone_learn() -> None:
    model, trained = learner(mesh_of(2, 2, 2), TINY, LoraConfig(rank=2))
    frozen = numbers(model.frozen)
    batch = problem(groups=0, documents=6).batch(model.mesh_context, WHOLE)
    state, metrics, _ = stepped((model, trained), batch)
    before, after = numbers(trained), numbers(state.trained)
    assert all("lora" in path or "row" in path for path in after)
    moved = {path.split("'")[-2] for path in after if (after[path] != before[path]).any()}
    assert moved == {"b", "delta"}  # A has no gradient while B is 0
    assert metrics["grad_norm"] > 0
    for path, value in numbers(model.frozen).items():
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
    learned = learner()
    model, trained = learned
    batch = whole.batch(model.mesh_context, WHOLE)
    with model.mesh_context.activate():
        elsewhere = jax.tree.map(lambda leaf: leaf + 0.02 * jnp.sin(leaf * 99), trained)
        reference = step_log_probs(model, elsewhere, batch)
        before = [column + 0.3 * jnp.cos(column * 50) for column in step_log_probs(*learned, batch)]
    batch = with_columns(with_columns(batch, "reference", reference), "old", before)
    later = replace(batch, objective=replace(batch.objective, on_policy=False))
    assert ["old" in placed.micro.columns for placed in later.micro] == [True, False]
    _, metrics, log_probs = stepped(learned, later)
    (index,) = [n for n, placed in enumerate(later.micro) if "old" in placed.micro.columns]
    columns = {name: np.asarray(x) for name, x in later.micro[index].micro.columns.items()}
    expected = kl = gap = capped = 0.0
    for at in np.argwhere(columns["policy_weight"] > 0):
        now, old, sampler, base, advantage = (
            float(array[tuple(at)])
            for array in (
                np.asarray(log_probs[index]),
                *(columns[name] for name in ("old", "sampler", "reference", "advantage")),
            )
        )
        ratio = np.exp(now - old)
        objective = min(ratio * advantage, np.clip(ratio, 0.8, 1.28) * advantage)
        divergence = ratio * (np.exp(base - now) - (base - now) - 1)
        weight = np.exp(old - sampler) if 1 / 4 <= np.exp(old - sampler) <= 4 else 0.0
        expected += -weight * objective + 0.3 * divergence
        capped += weight == 0
        kl, gap = kl + divergence, gap + abs(old - sampler)
    count = int((columns["policy_weight"] > 0).sum())
    assert count == sum(actions_of(one) for _, group in whole.groups for one in group)
    expected -= 0.2 * metrics["rollout/entropy"] * count
    assert metrics["loss/policy"] == pytest.approx(whole.policy_weight * expected, rel=1e-4)
    assert 0 < capped < count
    assert metrics["policy/sampler_capped"] == pytest.approx(capped / count)
    assert metrics["policy/kl"] == pytest.approx(kl / count, rel=1e-4)
    assert metrics["rollout/log_prob_gap"] == pytest.approx(gap / count, rel=1e-4)
    assert 0 < metrics["policy/clipped"] < 1


def test_a_policy_loss_without_its_reference_is_refused() -> None:
    whole = replace(problem(queries=0, documents=8), policy=PolicyConfig(loss="grpo", beta=0.1))
    learned = learner()
    with pytest.raises(ConfigError, match="beta=0.1 needs log-probabilities under the reference"):
        stepped(learned, whole.batch(learned[0].mesh_context, WHOLE))


def test_groups_that_are_not_kept_teach_nothing_and_measure_nothing() -> None:
    whole = replace(problem(queries=0, documents=8), policy_weight=0.0)
    learned = learner()
    batch = replace(whole.batch(learned[0].mesh_context, WHOLE), plan=None)
    state, metrics, _ = stepped(learned, batch)
    assert metrics["loss/policy"] == metrics["grad_norm"] == 0
    assert not {"rollout/entropy", "rollout/log_prob_gap"} & metrics.keys()
    assert_alike(state.trained, learned[1], atol=0)


def test_a_thousand_queries_take_four_programs_of_sixteen_rows() -> None:
    learned = learner()
    model, trained = learned
    micro = MicroBatchConfig(rows=16, tokens=512, length_step=32)
    optimizer = Optimizer(PLAIN, steps=10)
    many = [problem(queries=1024, groups=0, documents=1026, seed=seed) for seed in range(2)]
    batches = [one.batch(model.mesh_context, micro) for one in many]
    assert {placed.micro.tokens.shape for placed in batches[0].micro} == {(16, 32)}
    with model.mesh_context.activate():
        state = optimizer.start(trained)
        with count_compilations() as first:
            state, metrics, _ = train_step(model, optimizer, state, batches[0])
        with count_compilations() as second:
            train_step(model, optimizer, state, batches[1])
    assert 0 < first.of["vectors_of"] <= 2
    assert 0 < first.of["add_gradients"] <= 2
    assert second.count == 0
    # Untrained vectors are nearly as close to one document as to another.
    assert 0.5 * np.log(800) < metrics["loss/infonce"] < 3 * np.log(1026)


def test_imitation_falls_as_steeply_as_its_gradient_says() -> None:
    """Finite differences of the loss along the gradient, without autodiff."""
    only = replace(PROBLEM, groups=[], advantages=PROBLEM.advantages[:0])
    model, trained = learner(config=UNTIED)
    batch = replace(only.batch(model.mesh_context, WHOLE), plan=None)
    state, metrics, _ = stepped((model, trained), batch)
    moves = jax.tree.map(lambda new, old: old - new, state.trained, trained)
    gradients = jax.tree.map(lambda move: move / (1.0 - abs(move)), moves)
    norm = float(np.sqrt(sum(np.sum(np.square(g)) for g in numbers(gradients).values())))
    assert norm == pytest.approx(metrics["grad_norm"], rel=1e-3)

    weight = sum(float(np.sum(one.micro.columns.get("sft_weight", 0))) for one in batch.micro)

    def loss(distance: float) -> float:
        moved = jax.tree.map(lambda w, g: w + distance / norm * g, trained, gradients)
        return stepped((model, moved), batch)[1]["loss/sft"] * weight

    reach = 0.02
    assert (loss(reach) - loss(-reach)) / (2 * reach) == pytest.approx(norm, rel=0.01)
