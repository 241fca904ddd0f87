"""A rollout as data: the thoughts about the queries of a step, their rewards, and their metrics."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from t1_jax.generate import FinishReason, Thought
from t1_jax.train.data import Example
from t1_jax.train.rewards import Rewards


@dataclass(frozen=True, kw_only=True, eq=False)
class Rollout:
    """P queries with G sampled thoughts each.

    Attributes:
        examples: the P queries.
        thoughts: P groups of G thoughts.
        rewards: rewards of the thoughts; without terms in a stage without a policy loss.
        advantages: advantages within each group.
        group_mask: groups that the policy loss counts.
    """

    examples: Sequence[Example]
    thoughts: Sequence[Sequence[Thought]]
    rewards: Rewards
    advantages: Float[np.ndarray, "P G"]
    group_mask: Bool[np.ndarray, " P"]

    @property
    def group_size(self) -> int:
        """G."""
        return len(self.thoughts[0])


def without_rewards(examples: Sequence[Example], thoughts: Sequence[Sequence[Thought]]) -> Rollout:
    """A rollout that is read for its embeddings alone: a policy loss would count none of it."""
    zeros = np.zeros((len(examples), len(thoughts[0])), np.float32)
    return Rollout(
        examples=examples,
        thoughts=thoughts,
        rewards=Rewards(total=zeros, terms={}),
        advantages=zeros,
        group_mask=np.zeros(len(examples), bool),
    )


def fill_groups(rollout: Rollout, resampled: Rollout) -> Rollout:
    """As many groups as `rollout` has, out of both: those in the policy loss before the others."""
    in_loss = np.concatenate([rollout.group_mask, resampled.group_mask])
    order = np.argsort(~in_loss, kind="stable")[: len(rollout.examples)]
    examples = [*rollout.examples, *resampled.examples]
    thoughts = [*rollout.thoughts, *resampled.thoughts]

    def chosen(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a, b])[order]

    return Rollout(
        examples=[examples[number] for number in order],
        thoughts=[thoughts[number] for number in order],
        rewards=Rewards(
            total=chosen(rollout.rewards.total, resampled.rewards.total),
            terms={
                name: chosen(term, resampled.rewards.terms[name])
                for name, term in rollout.rewards.terms.items()
            },
        ),
        advantages=chosen(rollout.advantages, resampled.advantages),
        group_mask=chosen(rollout.group_mask, resampled.group_mask),
    )


def rollout_metrics(rollout: Rollout) -> dict[str, float]:
    """Lengths and finish reasons of the thoughts, their mean cosine, and their rewards."""
    thoughts = [thought for group in rollout.thoughts for thought in group]
    truncated = [thought.finish_reason is FinishReason.LENGTH for thought in thoughts]
    return {
        "rollout/length": float(np.mean([thought.reasoning_tokens for thought in thoughts])),
        "rollout/truncated_frac": float(np.mean(truncated)),
        "rollout/missing_emb_frac": float(
            np.mean([thought.emb_token_appended for thought in thoughts])
        ),
        **_mean_cosine(rollout),
        **_reward_metrics(rollout),
    }


def _mean_cosine(rollout: Rollout) -> dict[str, float]:
    """Mean cosine between embeddings of different queries; near 1 is a collapse.

    A contrastive loss overrides it with that of the embeddings it compares.
    """
    vectors = np.stack([[thought.embedding for thought in group] for group in rollout.thoughts])
    queries, size, _ = vectors.shape
    if queries < 2:
        return {}
    groups = vectors.sum(axis=1, dtype=np.float64)
    pairs = queries * (queries - 1) * size**2
    total = np.sum(groups.sum(axis=0) ** 2) - np.sum(groups**2)
    return {"embedding/mean_cosine": float(total / pairs)}


def _reward_metrics(rollout: Rollout) -> dict[str, float]:
    rewards = rollout.rewards
    if not rewards.terms:
        return {}
    return {
        "reward": float(rewards.total.mean()),
        # Within a group; differences between queries cancel in the advantages.
        "rollout/reward_std": float(rewards.total.std(axis=1).mean()),
        "rollout/nonzero_std_frac": float(np.mean(rollout.group_mask)),
        "rollout/advantage_abs": float(np.abs(rollout.advantages).mean()),
        **{f"reward/{name}": float(term.mean()) for name, term in rewards.terms.items()},
    }


def rollout_samples(rollout: Rollout, queries: int) -> list[dict[str, Any]]:
    """The thoughts of the first `queries` queries with their rewards, for a person to read.

    The reward is None in a stage without a policy loss.
    """
    has_rewards = bool(rollout.rewards.terms)
    return [
        {
            "of": "rollout",
            "set": example.set_name,
            "query_id": example.record.query_id,
            "query": example.record.query,
            **({"candidates": list(example.candidates)} if example.candidates else {}),
            "positive": example.positive,
            "thought": thought.text,
            "finish_reason": thought.finish_reason.value,
            "reward": float(rollout.rewards.total[number, sample]) if has_rewards else None,
            "advantage": float(rollout.advantages[number, sample]),
            "terms": {
                name: float(term[number, sample]) for name, term in rollout.rewards.terms.items()
            },
        }
        for number, example in enumerate(rollout.examples[:queries])
        for sample, thought in enumerate(rollout.thoughts[number])
    ]
