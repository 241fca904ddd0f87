"""Steps of each stage: what is measured, what several updates and a reference model do."""

import jax
import numpy as np
import pytest

from t1_jax.train.rewards import RewardContext, register_reward
from tests.train.toy_runs import FLAT_REWARD, S1, S2, S3, leaves_of, merged
from tests.train.toy_stages import LORA, ToyStages


@register_reward("even_share")
def even_share(context: RewardContext) -> np.ndarray:
    """The share of a thought's tokens whose id is even; 1 is the best there is."""
    return np.array(
        [
            [
                float(np.mean([*(1 - thought.token_ids[:-1] % 2), 0][:-1] or [0]))
                for thought in group
            ]
            for group in context.thoughts
        ]
    )


def test_measures_of_each_stage(toy):
    for stage, expected in (
        (S1, {"loss/sft"}),
        (S2, {"loss/sft", "loss/infonce", "loss/triplet", "embedding/mean_cosine"}),
    ):
        _, (metrics,) = toy.run(toy.stage(stage), 1)
        assert expected | {"loss", "grad_norm", "target_tokens", "time/update"} <= metrics.keys()
        assert {type(value) for value in metrics.values()} == {float}
    assert metrics["loss"] == pytest.approx(
        metrics["loss/sft"] + metrics["loss/infonce"] + 2 * metrics["loss/triplet"]
    )


def test_sampler_and_trainer_agree_at_a_temperature(toy):
    for sharing in (True, False):
        rollout = {"temperature": 0.7, "shared_prefix": sharing}
        _, (metrics,) = toy.run(toy.stage(merged(S3, {"rollout": rollout})), 1)
        assert metrics["rollout/log_prob_gap"] < 1e-4
        assert 0 < metrics["rollout/entropy"] < np.log(385)
        assert {"time/rollout", "time/reward", "time/refresh", "time/update"} <= metrics.keys()


def test_the_second_update_is_held_by_the_policy_before_the_first(toy):
    """A step so large that all ratios leave the clip range; rollout measures are the first's."""
    policy = {"loss": "dapo", "clip_low": 1e-4, "clip_high": 1e-4}
    stage = merged(S3, {"policy": policy, "losses": {"infonce": 0}})
    state, (once,) = toy.run(toy.stage(stage), 1)
    assert once["policy/clipped"] == 0
    twice_state, (twice,) = toy.run(toy.stage(merged(stage, {"rollout": {"num_iterations": 2}})), 1)
    assert 0.1 < twice["policy/clipped"] < 0.5  # the mean of none, and of nearly one half
    assert twice["rollout/log_prob_gap"] < 1e-4
    assert twice["rollout/length"] == once["rollout/length"]
    assert int(twice_state.train.step) == 2
    assert int(state.train.step) == 1


def test_the_reference_is_the_policy_that_the_stage_began_with(toy):
    stage = merged(S3, {"policy": {"loss": "grpo", "beta": 0.5}, "losses": {"infonce": 0}})
    started = leaves_of(toy.weights())
    state, metrics = toy.run(toy.stage(stage), 3)
    assert metrics[0]["policy/kl"] == pytest.approx(0, abs=1e-6)
    assert metrics[2]["policy/kl"] > 1e-4
    for name, leaf in leaves_of(state.reference).items():
        np.testing.assert_array_equal(leaf, started[name])
    without = toy.stage(merged(stage, {"policy": {"beta": 0.0}}))
    assert without.start(toy.weights()).reference is None


def test_under_adapters_the_reference_is_a_copy_of_them_alone(toy):
    lora = ToyStages(toy.root, model={"lora": LORA})
    stage = merged(S3, {"policy": {"loss": "grpo", "beta": 0.5}, "losses": {"infonce": 0}})
    state, metrics = lora.run(lora.stage(stage), 2)
    assert metrics[0]["policy/kl"] == pytest.approx(0, abs=1e-6)
    assert metrics[1]["policy/kl"] > 0
    size = sum(leaf.size for leaf in jax.tree.leaves(state.reference))
    assert 0 < size < lora.student.parameters / 10


def test_a_fixed_thought_is_all_that_is_imitated(toy):
    rate = {"optimizer": {"learning_rate": 1e-2}}
    fixed = merged(S1, {"fixed_thought": "It is", "steps": 40, **rate})
    state, metrics = toy.run(toy.stage(fixed), 40)
    assert metrics[-1]["loss/sft"] < 0.1 < metrics[0]["loss/sft"]
    options = toy.student.retriever_options(
        toy.config(fixed).data.lengths, max_rows=4, max_thought_tokens=8
    )
    model = toy.student.retriever(state.train.trained, options)
    _, ((thought,),) = model.encode_query(["Where is my hat?"], return_thoughts=True)
    assert (thought.text, thought.emb_token_appended) == ("It is", False)


def test_epochs_count_steps(toy):
    stage = {key: value for key, value in S1.items() if key != "steps"}
    assert toy.stage({**stage, "epochs": 1}).steps == 6
    assert toy.stage({**stage, "epochs": 2.1}).steps == 13
    assert toy.stage({**stage, "epochs": 0.01}).steps == 1


def test_a_policy_reaches_a_known_optimum(toy):
    """Even tokens are all that pays; the model learns to write nothing else."""
    stage = merged(
        S3,
        {
            "steps": 40,
            "losses": {"infonce": 0},
            "optimizer": {"learning_rate": 1e-2},
            "data": {"batch_size": 8, "hard_negatives": 0},
            "rollout": {"num_generations": 8, "max_thought_tokens": 4, "max_rows": 64},
            "pool": {"kind": "batch"},
            "reward": {
                "terms": {"even_share": 1, "format": 0, "length": 0, "log_rank": 0, "gap": 0}
            },
        },
    )
    _, metrics = toy.run(toy.stage(stage), 40)
    rewards = [each["reward"] for each in metrics]
    assert np.mean(rewards[:3]) < 0.65
    assert np.mean(rewards[-3:]) > 0.97


def test_seeds_2_to_the_32_apart_and_beyond_think_differently(toy):
    found = [
        toy.run(toy.stage(S3, seed=seed), 1)[1][0]["rollout/log_prob_gap"]
        for seed in (0, 2**32, 2**64 - 1)
    ]
    assert len(set(found)) == 3


@pytest.mark.parametrize("zero_variance", ["drop", "resample", "zero"])
def test_the_smallest_stage_of_rewards_that_tell_nothing(toy, zero_variance):
    """One query, one row in a micro-batch, and no advantage: a step without a gradient."""
    stage = merged(
        S3,
        {
            "steps": 1,
            "losses": {"infonce": 0},
            "data": {"batch_size": 1, "hard_negatives": 0},
            "micro_batch": {"rows": 1},
            "rollout": {"num_generations": 2, "max_rows": 1},
            "reward": FLAT_REWARD,
            "advantage": {"zero_variance": zero_variance},
        },
    )
    state, (metrics,) = toy.run(toy.stage(stage), 1)
    assert metrics["grad_norm"] == metrics["loss"] == 0
    assert ("rollout/entropy" in metrics) == (zero_variance == "zero")
    for before, after in zip(
        jax.tree.leaves(toy.student.initial), jax.tree.leaves(state.train.trained), strict=True
    ):
        np.testing.assert_array_equal(before, after)
