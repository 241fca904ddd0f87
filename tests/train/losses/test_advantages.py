"""Advantages against loops and against numbers that others print in their documentation."""

import statistics

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError, DataError
from t1_jax.train.losses import AdvantageConfig, group_advantages, has_variance

CENTERED = ["grpo", "dr_grpo", "rloo"]
KINDS = [*CENTERED, "raft"]

GROUPS = st.integers(2, 6).flatmap(
    lambda g: st.lists(
        st.lists(st.floats(-5, 5, width=32), min_size=g, max_size=g), min_size=1, max_size=4
    )
)


def plain_advantage(group: list[float], i: int, kind: str) -> float:
    """The textbook's sentence, with the standard library."""
    if statistics.stdev(group) < 1e-3:
        return 0.0
    if kind == "rloo":
        return group[i] - statistics.fmean(group[:i] + group[i + 1 :])
    centered = group[i] - statistics.fmean(group)
    return centered / (statistics.stdev(group) + 1e-4) if kind == "grpo" else centered


@given(groups=GROUPS, kind=st.sampled_from(CENTERED))
def test_advantages_are_their_formulas(groups: list[list[float]], kind: str):
    found, kept = group_advantages(np.array(groups), AdvantageConfig(kind=kind))
    expected = [[plain_advantage(group, i, kind) for i in range(len(group))] for group in groups]
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-5)
    assert kept.tolist() == [statistics.stdev(group) >= 1e-3 for group in groups]
    np.testing.assert_allclose(found.sum(axis=1), 0, atol=1e-3)


@pytest.mark.parametrize(
    ("kind", "rewards", "expected"),
    [
        # Dr.GRPO without scale, the example of Twinkle's guide.
        ("dr_grpo", [[0, 1, 0, 1], [1, 0, 0, 0]], [[-0.5, 0.5, -0.5, 0.5], [0.75] + [-0.25] * 3]),
        # Leave-one-out, from the tests of Tunix and of Marin.
        ("rloo", [[1, 2, 3], [4, 5, 6]], [[-1.5, 0, 1.5], [-1.5, 0, 1.5]]),
        ("rloo", [[0, 1, 0], [0, 0.5, 1]], [[-0.5, 1, -0.5], [-0.75, 0, 0.75]]),
        # GRPO with the sample deviation, from the tests of Tunix (ε 1e-6; ours is 1e-4).
        ("grpo", [[1, 2, 3]], [[-1.0, 0.0, 1.0]]),
        ("grpo", [[1, 2, 3, 4]], [[-1.161895, -0.387298, 0.387298, 1.161895]]),
        # The best of a group, and the first of two that are best.
        ("raft", [[1, 3, 2], [2, 0, 2]], [[0, 1, 0], [1, 0, 0]]),
    ],
)
def test_worked_numbers(kind: str, rewards: list[list[float]], expected: list[list[float]]):
    found, kept = group_advantages(np.array(rewards, float), AdvantageConfig(kind=kind))
    np.testing.assert_allclose(found, expected, atol=2e-4)
    assert kept.all()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("mode", "stays"), [("drop", False), ("resample", False), ("zero", True)])
def test_groups_without_variance(kind: str, mode: str, stays: bool):
    rewards = np.array([[0.3] * 4, [0.3, 0.3, 0.3, 0.3004], [0.0, 1.0, 0.0, 1.0]])
    config = AdvantageConfig(kind=kind, zero_variance=mode)
    advantages, kept = group_advantages(rewards, config)
    assert kept.tolist() == [stays, stays, True]
    assert not advantages[:2].any()
    assert advantages[2].any()
    assert has_variance(rewards, config.std_floor).tolist() == [False, False, True]


@pytest.mark.parametrize("kind", KINDS)
def test_a_group_of_one_teaches_nothing(kind: str):
    config = AdvantageConfig(kind=kind, std_floor=0.0, eps=0.0, zero_variance="zero")
    advantages, kept = group_advantages(np.array([[0.7]]), config)
    assert (advantages.tolist(), kept.tolist()) == ([[0.0]], [True])


def test_the_default_gives_jitter_the_size_of_jitter():
    """Of two groups, one differs by a fiftieth of the other, and so do its advantages."""
    rewards = np.array([[2.000, 2.004, 2.000, 2.004], [1.0, 1.2, 1.0, 1.2]])
    found, kept = group_advantages(rewards, AdvantageConfig())
    np.testing.assert_allclose(found[:, 1], [0.002, 0.1], rtol=1e-4)
    divided, _ = group_advantages(rewards, AdvantageConfig(kind="grpo"))
    np.testing.assert_allclose(divided[:, 1], [0.83, 0.865], atol=5e-3)  # as if they were alike
    assert kept.all()


def test_equal_rewards_never_divide_by_nothing():
    config = AdvantageConfig(kind="grpo", std_floor=0.0, eps=0.0)
    advantages, kept = group_advantages(np.full((1, 3), 0.5), config)
    assert not advantages.any()
    assert not kept.any()


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_reward_that_is_no_number_is_refused(bad: float):
    with pytest.raises(DataError, match="thought 1 of query 2"):
        group_advantages(np.array([[0.0, 1.0], [0.0, 1.0], [0.0, bad]]), AdvantageConfig())


def test_config_is_documented_and_reads_from_overrides():
    assert undocumented_fields(AdvantageConfig) == []
    assert load_config(AdvantageConfig, overrides=["kind=rloo"]).kind == "rloo"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kind": "drgrpo"}, "did you mean 'dr_grpo'"),
        ({"zero_variance": "dropp"}, "did you mean 'drop'"),
        ({"eps": -1.0}, "eps must be finite and at least 0"),
        ({"std_floor": float("nan")}, "std_floor must be finite and at least 0"),
        ({"std_floor": float("inf")}, "std_floor must be finite and at least 0"),
    ],
)
def test_config_refuses(change: dict, message: str):
    with pytest.raises(ConfigError, match=message):
        AdvantageConfig(**change)
