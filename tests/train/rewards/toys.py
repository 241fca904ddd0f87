"""Thoughts, records and standings small enough to work out by hand."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from t1_jax.generate import FinishReason, Thought
from t1_jax.train.data.records import TrainingRecord
from t1_jax.train.rewards import RetrievalOutcome, RewardContext, RewardOptions

EMB = 99


def thought(
    tokens: Sequence[int], text: str = "", finish_reason: FinishReason = FinishReason.EMB_TOKEN
) -> Thought:
    """A thought of these tokens; `<emb_token>` is appended."""
    ids = np.array([*tokens, EMB])
    zeros = np.zeros(len(ids), np.float32)
    return Thought(
        token_ids=ids,
        log_probs=zeros,
        log_probs_at_1=zeros,
        embedding=np.array([0.6, 0.8], np.float32),
        finish_reason=finish_reason,
        sample=0,
        text=text,
    )


def record(name: str = "q0", positives: Sequence[str] = ("d0",), **fields: Any) -> TrainingRecord:
    """A query with positives of grade 1."""
    given = {"query_id": name, "query": "why does it leak", **fields}
    return TrainingRecord(positives=dict.fromkeys(positives, 1), **given)


def outcome(
    ranks: Sequence[Sequence[int]],
    *,
    grades: Sequence[int] | None = None,
    scores: Sequence[Sequence[float]] | None = None,
    negatives: Sequence[float] = (),
    candidates: int = 100,
) -> RetrievalOutcome:
    """One prompt, G thoughts with R positives each."""
    ranks_ = np.array([ranks])
    hardest = np.full(10, -np.inf)
    hardest[: len(negatives)] = negatives
    return RetrievalOutcome(
        positive_grades=np.array([grades or [1] * ranks_.shape[2]]),
        positive_scores=np.zeros(ranks_.shape) if scores is None else np.array([scores]),
        positive_ranks=ranks_,
        hardest_negatives=np.tile(hardest, (1, ranks_.shape[1], 1)),
        candidates=np.array([candidates]),
    )


def context(
    where: RetrievalOutcome,
    *,
    thoughts: Sequence[Thought] | None = None,
    nothink: RetrievalOutcome | None = None,
    max_thought_tokens: int = 8,
    query: str = "why does it leak",
    options: RewardOptions | None = None,
) -> RewardContext:
    """One prompt; thoughts of three tokens unless others are given."""
    group = thoughts or [thought([1, 2, 3]) for _ in range(where.shape[1])]
    return RewardContext(
        thoughts=[group],
        records=[record(query=query)],
        outcome=where,
        nothink=nothink,
        max_thought_tokens=max_thought_tokens,
        options=options or RewardOptions(),
    )
