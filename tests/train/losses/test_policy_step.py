"""Whole steps of policy loss: averages over thoughts, micro-batches, and a bandit that learns."""

import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.train.losses import (
    AdvantageConfig,
    PolicyConfig,
    group_advantages,
    policy_loss,
    token_weights,
)
from tests.train.losses.policy_toys import plain_loss, problem, run

AGGREGATIONS = (
    "token_mean",
    "seq_mean_token_mean",
    "seq_mean_token_sum_norm",
)


def plain_aggregate(losses: list[np.ndarray], aggregation: str, max_thought_tokens: int) -> float:
    """The definitions, with means."""
    return {
        "token_mean": float(np.concatenate(losses).mean()),
        "seq_mean_token_mean": float(np.mean([each.mean() for each in losses])),
        "seq_mean_token_sum_norm": float(np.mean([each.sum() for each in losses]))
        / max_thought_tokens,
    }[aggregation]


@given(
    lengths=st.lists(st.integers(0, 9), min_size=1, max_size=8),
    aggregation=st.sampled_from(AGGREGATIONS),
    seed=st.integers(0, 1000),
)
def test_weights_are_the_aggregations(lengths: list[int], aggregation: str, seed: int):
    rng = np.random.default_rng(seed)
    losses = [rng.standard_normal(length) for length in lengths]
    weights = token_weights(np.array(lengths), aggregation, 16)
    total = sum(w * each.sum() for w, each in zip(weights, losses, strict=True))
    kept = [each for each in losses if len(each)]
    expected = plain_aggregate(kept, aggregation, 16) if kept else 0.0
    assert float(total) == pytest.approx(expected, rel=1e-5, abs=1e-6)
    assert not np.any(weights[np.array(lengths) == 0])


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
def test_micro_batches_with_global_denominators_add_up(aggregation: str):
    """Rows of one thought each, in two uneven micro-batches, one of them padded further."""
    data, config = problem(7), PolicyConfig(beta=0.1)
    data["continuation"][:] = 0
    data["mask"] = np.arange(10) < np.array([3, 10, 1, 0, 7, 7, 2, 5])[:, None]
    weights = token_weights(data["mask"].sum(axis=1), aggregation, 12)[:, None]
    whole = np.sum(weights * np.asarray(run(data, config).loss))
    pieces = 0.0
    for part, padding in ((slice(0, 3), 0), (slice(3, 8), 6)):
        piece = {k: np.pad(v[part], ((0, 0), (0, padding))) for k, v in data.items()}
        pieces += np.sum(weights[part] * np.asarray(run(piece, config).loss))
    assert float(pieces) == pytest.approx(float(whole), rel=1e-6)
    per_thought = [
        row[mask] for row, mask in zip(plain_loss(data, config), data["mask"], strict=True)
    ]
    expected = plain_aggregate([each for each in per_thought if len(each)], aggregation, 12)
    assert float(whole) == pytest.approx(expected, rel=1e-4)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def train_bandit(config: PolicyConfig, advantages: AdvantageConfig, updates: int) -> np.ndarray:
    """The probabilities of the two right actions after 60 rollouts.

    A thought is one action out of four, or two; a table holds the policy of each of the two places,
    and the reward counts right actions. Thoughts of one length form a group.
    """
    rng = np.random.default_rng(0)
    best = np.array([2, 1])
    logits: Any = np.zeros((2, 4), np.float32)

    def loss(logits: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        actions = data["actions"]
        logps = jax.nn.log_softmax(logits)[jnp.arange(2), actions]
        terms = policy_loss(
            logps,
            old_logps=data["old_logps"],
            sampler_logps=data["old_logps"],
            ref_logps=jnp.full(logps.shape, math.log(0.25)),
            advantages=data["advantages"],
            mask=data["mask"],
            continuation=jnp.zeros(actions.shape, jnp.int32),
            num_continuations=1,
            config=config,
        )
        return jnp.sum(data["weights"][:, None] * terms.loss)

    @jax.jit
    def update(logits: jax.Array, data: dict[str, jax.Array]) -> jax.Array:
        return logits - 2.0 * jax.grad(loss)(logits, data)

    for _ in range(60):
        probabilities = softmax(np.asarray(logits))
        actions = np.stack([rng.choice(4, 32, p=row / row.sum()) for row in probabilities], axis=1)
        lengths = np.where(np.arange(32) % 2, 2, 1)
        mask = np.arange(2) < lengths[:, None]
        rewards = ((actions == best) & mask).sum(axis=1).astype(float)
        grouped = np.stack([rewards[0::2], rewards[1::2]])
        found, kept = group_advantages(grouped, advantages)
        of_thought = np.stack([found[0], found[1]], axis=1).reshape(-1)
        kept_lengths = np.where(np.tile(kept, 16), lengths, 0)
        data = {
            "actions": actions,
            "old_logps": np.log(probabilities)[np.arange(2), actions],
            "advantages": np.repeat(of_thought[:, None], 2, axis=1),
            "mask": mask & (kept_lengths > 0)[:, None],
            "weights": token_weights(kept_lengths, config.resolved().aggregation, 2),
        }
        for _ in range(updates):
            logits = update(logits, data)
    return softmax(np.asarray(logits))[np.arange(2), best]


@pytest.mark.parametrize("loss", ["grpo", "dr_grpo", "dapo", "gspo"])
@pytest.mark.parametrize("updates", [1, 3])
def test_a_bandit_reaches_its_known_optimum(loss: str, updates: int):
    kind = "dr_grpo" if loss == "dr_grpo" else "grpo"
    wide = 0.2 if loss == "gspo" else None  # its own clip is for models, not for tables
    config = PolicyConfig(loss=loss, clip_low=wide, clip_high=wide)
    found = train_bandit(config, AdvantageConfig(kind=kind), updates)
    assert np.all(found > 0.9), found


def test_a_strong_kl_holds_the_policy_at_its_reference():
    free = train_bandit(PolicyConfig(beta=0.0), AdvantageConfig(kind="rloo"), 1)
    held = train_bandit(PolicyConfig(beta=5.0), AdvantageConfig(kind="rloo"), 1)
    assert np.all(free > 0.9)
    assert np.all(held < 0.5)
