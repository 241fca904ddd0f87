"""A dry run of rewards on made-up thoughts, before a model is loaded."""

from collections.abc import Sequence

import numpy as np

from t1_jax.generate import FinishReason, Thought
from t1_jax.train.data import TrainingRecord
from t1_jax.train.rewards.outcome import RetrievalOutcome, outcome_from_scores
from t1_jax.train.rewards.registry import RewardConfig, RewardContext, compute_rewards

_CANDIDATES = 24
_WORDS = ["the", "cause", "is", "a", "missing", "check", "on", "what", "comes", "in"]
_EMB_TOKEN_ID = 1


def dry_run_rewards(
    records: Sequence[TrainingRecord],
    config: RewardConfig,
    *,
    num_generations: int,
    max_thought_tokens: int,
) -> None:
    """Computes the rewards of made-up thoughts: one empty, one truncated, the others complete.

    Raises:
        T1Error: a reward raises, or returns anything but finite floats [P, G]; the error names it.
    """
    rng = np.random.default_rng(0)
    positives = [len(record.positives) for record in records]
    width = max(positives) + _CANDIDATES
    grades = np.zeros((len(records), width), np.int64)
    for number, record in enumerate(records):
        grades[number, : positives[number]] = list(record.positives.values())

    def outcome(samples: int) -> RetrievalOutcome:
        scores = rng.uniform(-1, 1, (len(records), samples, width)).astype(np.float32)
        return outcome_from_scores(scores, grades, np.ones_like(grades, dtype=bool))

    context = RewardContext(
        thoughts=[
            [_thought(n, max_thought_tokens, rng) for n in range(num_generations)] for _ in records
        ],
        records=records,
        outcome=outcome(num_generations),
        nothink=outcome(1) if config.needs_nothink else None,
        max_thought_tokens=max_thought_tokens,
    )
    compute_rewards(context, config)


def _thought(number: int, max_thought_tokens: int, rng: np.random.Generator) -> Thought:
    """The first is empty, the second truncated, the others end in `<emb_token>`."""
    length = {0: 0, 1: max_thought_tokens}.get(number, min(len(_WORDS), max_thought_tokens))
    ids = np.append(rng.integers(2, 1000, length), _EMB_TOKEN_ID).astype(np.int32)
    log_probs = -rng.uniform(0.1, 2, length + 1).astype(np.float32)
    vector = rng.normal(size=8).astype(np.float32)
    return Thought(
        token_ids=ids,
        log_probs=log_probs,
        log_probs_at_1=log_probs,
        embedding=vector / np.linalg.norm(vector),
        finish_reason=FinishReason.LENGTH if number == 1 else FinishReason.EMB_TOKEN,
        sample=number,
        text=" ".join(_WORDS[:length]),
    )
