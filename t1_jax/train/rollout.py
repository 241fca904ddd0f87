"""A rollout: what was thought about the queries of a step, and what it earned."""

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
    """Queries of a step with their thoughts.

    Attributes:
        examples: P queries.
        thoughts: P groups of G.
        rewards: of each thought; without terms where nothing is rewarded.
        advantages: within each group.
        kept: groups that the policy loss counts.
    """

    examples: Sequence[Example]
    thoughts: Sequence[Sequence[Thought]]
    rewards: Rewards
    advantages: Float[np.ndarray, "P G"]
    kept: Bool[np.ndarray, " P"]

    @property
    def group_size(self) -> int:
        """G."""
        return len(self.thoughts[0])


def unrewarded(examples: Sequence[Example], thoughts: Sequence[Sequence[Thought]]) -> Rollout:
    """A rollout for the sake of its vectors alone: no group counts in a policy loss."""
    nothing = np.zeros((len(examples), len(thoughts[0])), np.float32)
    return Rollout(
        examples=examples,
        thoughts=thoughts,
        rewards=Rewards(total=nothing, terms={}),
        advantages=nothing,
        kept=np.zeros(len(examples), bool),
    )


def kept_first(first: Rollout, second: Rollout) -> Rollout:
    """As many groups as `first` has, out of both: those that are kept before those that are not."""
    queries = len(first.examples)
    order = np.argsort(~np.concatenate([first.kept, second.kept]), kind="stable")[:queries]
    examples, thoughts = [*first.examples, *second.examples], [*first.thoughts, *second.thoughts]

    def both(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.concatenate([a, b])[order]

    return Rollout(
        examples=[examples[number] for number in order],
        thoughts=[thoughts[number] for number in order],
        rewards=Rewards(
            total=both(first.rewards.total, second.rewards.total),
            terms={
                name: both(term, second.rewards.terms[name])
                for name, term in first.rewards.terms.items()
            },
        ),
        advantages=both(first.advantages, second.advantages),
        kept=both(first.kept, second.kept),
    )


def rollout_metrics(rollout: Rollout) -> dict[str, float]:
    """Mean reward and its terms, and how thoughts end."""
    thoughts = [thought for group in rollout.thoughts for thought in group]
    return {
        "rollout/length": float(np.mean([thought.reasoning_tokens for thought in thoughts])),
        "rollout/truncated_frac": float(
            np.mean([thought.finish_reason is FinishReason.LENGTH for thought in thoughts])
        ),
        "rollout/missing_emb_frac": float(
            np.mean([thought.emb_token_appended for thought in thoughts])
        ),
        **_mean_cosine(rollout),
        **_reward_metrics(rollout),
    }


def _mean_cosine(rollout: Rollout) -> dict[str, float]:
    """Of vectors of different queries, as health watches it; a step's contrastive loss tells it
    too, of the vectors that it compares.
    """
    vectors = np.stack([[thought.embedding for thought in group] for group in rollout.thoughts])
    queries, size, _ = vectors.shape
    if queries < 2:
        return {}
    groups = vectors.sum(axis=1, dtype=np.float64)
    pairs = queries * (queries - 1) * size**2
    between = np.sum(groups.sum(axis=0) ** 2) - np.sum(groups**2)
    return {"embedding/mean_cosine": float(between / pairs)}


def _reward_metrics(rollout: Rollout) -> dict[str, float]:
    rewards = rollout.rewards
    if not rewards.terms:
        return {}
    return {
        "reward": float(rewards.total.mean()),
        # Within a group; what differs between queries teaches nothing.
        "rollout/reward_std": float(rewards.total.std(axis=1).mean()),
        "rollout/nonzero_std_frac": float(np.mean(rollout.kept)),
        "rollout/advantage_abs": float(np.abs(rollout.advantages).mean()),
        **{f"reward/{name}": float(term.mean()) for name, term in rewards.terms.items()},
    }


def rollout_samples(rollout: Rollout, queries: int) -> list[dict[str, Any]]:
    """The thoughts of the first so many queries with what they earned, for a person to read."""
    return [
        {
            "of": "rollout",
            "set": example.set_name,
            "query_id": example.record.query_id,
            "query": example.record.query,
            "positive": example.positive,
            "thought": thought.text,
            "finish_reason": thought.finish_reason.value,
            "reward": float(rollout.rewards.total[number, sample]),
            "advantage": float(rollout.advantages[number, sample]),
            "terms": {
                name: float(term[number, sample]) for name, term in rollout.rewards.terms.items()
            },
        }
        for number, example in enumerate(rollout.examples[:queries])
        for sample, thought in enumerate(rollout.thoughts[number])
    ]
