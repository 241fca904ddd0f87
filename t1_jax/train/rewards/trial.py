"""What rewards would pay for thoughts that a model samples about some queries."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from t1_jax.generate import SamplingParams, Thought
from t1_jax.retrieval import Document
from t1_jax.retriever import T1
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.rewards.outcome import RetrievalOutcome, outcome_from_scores
from t1_jax.train.rewards.registry import RewardConfig, RewardContext, Rewards, compute_rewards


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardTrial:
    """Sampled thoughts and their rewards.

    Attributes:
        records: the P queries.
        thoughts: P groups of G thoughts.
        outcome: what they retrieve.
        rewards: of each thought.
    """

    records: Sequence[TrainingRecord]
    thoughts: Sequence[Sequence[Thought]]
    outcome: RetrievalOutcome
    rewards: Rewards

    @property
    def best_ranks(self) -> np.ndarray:
        """Rank of the best-ranked positive after each thought, [P, G]."""
        ranks = np.where(self.outcome.is_positive, self.outcome.positive_ranks, np.iinfo(int).max)
        return ranks.min(axis=2)


def trial_data(data: TrainingSet, queries: int, documents: int) -> TrainingSet:
    """The first queries of a set, with their documents and so many others."""
    records = data.records[:queries]
    needed = {name for record in records for name in record.document_ids}
    others = [name for name in data.documents if name not in needed]
    kept = needed | set(others[: max(documents - len(needed), 0)])
    return TrainingSet(
        name=data.name,
        records=records,
        documents={name: item for name, item in data.documents.items() if name in kept},
        task=data.task,
    )


def try_rewards(
    model: T1,
    data: TrainingSet,
    config: RewardConfig,
    *,
    num_generations: int,
    max_thought_tokens: int,
    sampling: SamplingParams,
) -> RewardTrial:
    """Samples thoughts about all queries of a set, ranks its documents, and computes rewards.

    Raises:
        T1Error: a reward fails, see `compute_rewards`.
    """
    records = [data.for_ranking(record) for record in data.records]
    task = model.known_task(data.task)
    vectors, thoughts = model.encode_query(
        [record.query for record in records],
        query_ids=[record.query_id for record in records],
        task=task,
        n=num_generations,
        max_thought_tokens=max_thought_tokens,
        sampling=sampling,
        return_thoughts=True,
    )
    vectors = np.stack([[thought.embedding for thought in group] for group in thoughts])
    documents = model.encode_document([item.full_text for item in data.documents.values()])
    nothink = None
    if config.needs_nothink:
        queries = model.encode_query([record.query for record in records], task=task, think=False)
        nothink = _outcome(records, queries[:, None], documents, data.documents)
    context = RewardContext(
        thoughts=thoughts,
        records=records,
        outcome=_outcome(records, vectors, documents, data.documents),
        nothink=nothink,
        max_thought_tokens=max_thought_tokens,
        special_ids=model.tokenizer.special_ids,
    )
    return RewardTrial(
        records=records,
        thoughts=thoughts,
        outcome=context.outcome,
        rewards=compute_rewards(context, config),
    )


def _outcome(
    records: Sequence[TrainingRecord],
    queries: np.ndarray,
    documents: np.ndarray,
    names: Mapping[str, Document],
) -> RetrievalOutcome:
    grades = np.array([[record.positives.get(name, 0) for name in names] for record in records])
    allowed = np.array([[name not in record.excluded for name in names] for record in records])
    return outcome_from_scores((queries @ documents.T).astype(np.float32), grades, allowed)
