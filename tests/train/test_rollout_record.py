"""Rollouts as they are measured, shown, and filled up with further groups."""

from dataclasses import replace

import numpy as np
import pytest

from t1_jax.generate import FinishReason
from t1_jax.train.data import Example
from t1_jax.train.rewards import Rewards
from t1_jax.train.rollout_record import (
    Rollout,
    fill_groups,
    rollout_metrics,
    rollout_samples,
)
from tests.train.rewards.toys import record, thought


def rollout(rewards: list[list[float]], kept: list[bool], name: str = "q") -> Rollout:
    """Two thoughts a query; the first was cut off, the second drew its `<emb_token>`."""
    total = np.array(rewards)
    return Rollout(
        examples=[
            Example(
                set_name="set",
                record=record(f"{name}{number}"),
                positive="d0",
                negatives=(),
                thought=None,
            )
            for number in range(len(rewards))
        ],
        thoughts=[
            [
                thought([1, 2, 3], text="cut", finish_reason=FinishReason.LENGTH),
                thought([1], text=f"{name}{number}"),
            ]
            for number in range(len(rewards))
        ],
        rewards=Rewards(total=total, terms={"format": total / 2}),
        advantages=(total - total.mean(axis=1, keepdims=True)).astype(np.float32),
        group_mask=np.array(kept),
    )


def test_measures():
    found = rollout_metrics(rollout([[0.0, 2.0], [1.0, 1.0]], [True, False]))
    # All toy thoughts have one vector.
    assert found.pop("embedding/mean_cosine") == pytest.approx(1.0)
    assert found == {
        "reward": 1.0,
        "rollout/reward_std": 0.5,
        "rollout/length": 2.0,
        "rollout/truncated_frac": 0.5,
        "rollout/missing_emb_frac": 0.5,
        "rollout/nonzero_std_frac": 0.5,
        "rollout/advantage_abs": 0.5,
        "reward/format": 0.5,
    }
    assert all(type(value) is float for value in found.values())


def test_vectors_of_different_queries_are_watched():
    """Also where no contrastive loss reports their similarity; pairs of one query do not count."""
    vectors = np.eye(4, 5, dtype=np.float32)
    vectors[2] = vectors[0]
    found = rollout([[0.0, 2.0], [1.0, 1.0]], [True, True])
    groups = [
        [replace(one, embedding=vectors[2 * number + sample]) for sample, one in enumerate(group)]
        for number, group in enumerate(found.thoughts)
    ]
    measured = rollout_metrics(replace(found, thoughts=groups))["embedding/mean_cosine"]
    assert measured == pytest.approx(1 / 4)
    alone = rollout([[0.0, 2.0]], [True])
    assert "embedding/mean_cosine" not in rollout_metrics(alone)


def test_groups_that_teach_take_the_places_of_those_that_do_not():
    first = rollout([[1.0, 1.0], [0.0, 2.0], [3.0, 3.0]], [False, True, False], "a")
    second = rollout([[5.0, 7.0], [4.0, 4.0], [8.0, 9.0]], [True, False, True], "b")
    both = fill_groups(first, second)
    assert [example.record.query_id for example in both.examples] == ["a1", "b0", "b2"]
    assert [group[1].text for group in both.thoughts] == ["a1", "b0", "b2"]
    np.testing.assert_array_equal(both.rewards.total, [[0, 2], [5, 7], [8, 9]])
    np.testing.assert_array_equal(both.rewards.terms["format"], [[0, 1], [2.5, 3.5], [4, 4.5]])
    np.testing.assert_array_equal(both.advantages, [[-1, 1], [-1, 1], [-0.5, 0.5]])
    assert both.group_mask.all()


def test_what_teaches_nothing_stays_where_nothing_better_came():
    first = rollout([[1.0, 1.0], [0.0, 2.0]], [False, True], "a")
    second = rollout([[5.0, 5.0], [4.0, 4.0]], [False, False], "b")
    both = fill_groups(first, second)
    assert [example.record.query_id for example in both.examples] == ["a1", "a0"]
    assert both.group_mask.tolist() == [True, False]


def test_samples_for_a_person():
    found = rollout_samples(rollout([[0.0, 2.0], [1.0, 1.0]], [True, False]), queries=1)
    assert len(found) == 2
    assert found[1] == {
        "of": "rollout",
        "set": "set",
        "query_id": "q0",
        "query": "why does it leak",
        "positive": "d0",
        "thought": "q0",
        "finish_reason": "emb_token",
        "reward": 2.0,
        "advantage": 1.0,
        "terms": {"format": 1.0},
    }
