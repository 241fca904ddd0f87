"""Rewards are tried on made-up thoughts, so that a bad one fails at once."""

import numpy as np
import pytest

from t1_jax.errors import T1Error
from t1_jax.train.rewards import RewardConfig, RewardContext, dry_run_rewards, reward_names
from tests.train.rewards.toys import record

HERE = "tests.train.rewards.test_dry_run"
RECORDS = [record("q0"), record("q1", ["d0", "d1"])]


def per_token(context: RewardContext) -> np.ndarray:
    """An empty thought has no tokens to divide by."""
    return np.array([[1.0 / t.reasoning_tokens for t in group] for group in context.thoughts])


def logged(context: RewardContext) -> np.ndarray:
    with np.errstate(divide="ignore"):
        return np.log([[float(t.reasoning_tokens) for t in group] for group in context.thoughts])


def seen(context: RewardContext) -> np.ndarray:
    lengths = [[t.reasoning_tokens for t in group] for group in context.thoughts]
    texts = [[bool(t.text) for t in group] for group in context.thoughts]
    assert lengths == [[0, 7, 7, 7]] * 2
    assert texts == [[False, True, True, True]] * 2
    assert context.max_thought_tokens == 7
    return np.asarray(lengths, float)


@pytest.mark.parametrize("thoughts", [2, 8])
def test_the_built_in_rewards_pass(thoughts: int):
    names = [name for name in reward_names() if not name.endswith("_for_tests")]
    config = RewardConfig(terms=dict.fromkeys(names, 1.0))
    assert config.needs_nothink
    dry_run_rewards(RECORDS, config, num_generations=thoughts, max_thought_tokens=64)


def test_thoughts_of_every_kind_are_tried():
    dry_run_rewards(
        RECORDS, RewardConfig(terms={f"{HERE}:seen": 1.0}), num_generations=4, max_thought_tokens=7
    )


def test_a_reward_that_fails_on_an_empty_thought():
    line = per_token.__code__.co_firstlineno + 2
    raised = rf"per_token' raised ZeroDivisionError: .* \(.*test_dry_run.py:{line}\)"
    with pytest.raises(T1Error, match=raised):
        dry_run_rewards(
            RECORDS,
            RewardConfig(terms={f"{HERE}:per_token": 1.0}),
            num_generations=4,
            max_thought_tokens=7,
        )
    with pytest.raises(T1Error, match=r"logged' \(.*\) returned -inf for thought 0 of query 'q0'"):
        dry_run_rewards(
            RECORDS,
            RewardConfig(terms={f"{HERE}:logged": 1.0}),
            num_generations=4,
            max_thought_tokens=7,
        )
