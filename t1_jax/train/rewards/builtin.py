"""The built-in rewards: pure functions of a `RewardContext`, [P, G], higher is better.

rank(d) is 1 + the number of other candidates that score as high or higher, n_c the number of
candidates, s(q, d) a cosine. All rewards are constants to the gradient.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from t1_jax.errors import DataError
from t1_jax.generate import Thought
from t1_jax.train.rewards.outcome import RetrievalOutcome
from t1_jax.train.rewards.registry import RewardContext, register_reward

T = TypeVar("T")


@register_reward("format")
def format_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """1 if the model ended a non-empty thought with `<emb_token>`, its only one, else 0.

    A thought of white space and special tokens alone counts as empty.
    """
    return _per_thought(context, lambda thought: _well_formed(thought, context.special_ids))


@register_reward("length")
def length_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """clip(2 − n/L_r, 0, 1) of n reasoning tokens: 1 up to L_r, falling to 0 at 2 L_r.

    With L_r = L/2 this is 1 + DAPO's soft overlong punishment with a cache of L/2
    (arXiv:2503.14476 eq. 13); the 1 cancels in advantages. An empty thought gets 1; "format" is 0
    for it.
    """
    target = context.options.length_target or context.max_thought_tokens / 2
    lengths = _per_thought(context, lambda thought: thought.reasoning_tokens)
    return np.clip(2.0 - lengths / target, 0.0, 1.0)


@register_reward("log_rank")
def log_rank_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """1 − log rank(d⁺)/log n_c of the best-ranked positive, LREM (arXiv:2510.14321).

    From 0, the last rank or a tie with all candidates, to 1, the first rank or a single candidate.
    """
    return _log_rank(context.outcome)


@register_reward("ndcg")
def ndcg_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """nDCG@k with linear grades as in trec_eval, for several or graded positives.

    Documents of equal score all have the lowest of their ranks, also positives among themselves.
    """
    return _ndcg(context.outcome, context.options.ndcg_k)


@register_reward("cosine_dcg")
def cosine_dcg_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """Σ_{d ∈ positives} max(0, s(q, d))/log₂(1 + rank d), over its value if all were ideal.

    A variant of Search-R3's reward (arXiv:2510.07048), which scales DCG by cosines. It still
    increases when ranks no longer change.
    """
    outcome = context.outcome
    discounts = 1.0 / np.log2(1.0 + _ranks(outcome))
    gained = np.maximum(outcome.positive_scores, 0.0) * discounts
    places = np.arange(1, outcome.positive_grades.shape[1] + 1)
    ideal = np.where(places <= outcome.is_positive.sum(axis=2), 1 / np.log2(1 + places), 0.0)
    return np.where(outcome.is_positive, gained, 0.0).sum(axis=2) / ideal.sum(axis=1)[:, None]


@register_reward("gap")
def gap_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """Mean cosine of the positives − mean cosine of the hardest negatives.

    Continuous, so that groups rarely tie, also where the positive ranks first. From −2 to 2;
    without negatives it is the mean cosine of the positives.
    """
    return _gap(context.outcome)


@register_reward("gain", needs_nothink=True)
def gain_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """The thought's log-rank, nDCG or gap − that of the query without a thought.

    The baseline is equal for all thoughts of a query and cancels in their advantages; it shows in
    logs and in comparisons between queries.
    """
    if context.nothink is None:
        raise DataError("the reward 'gain' needs the outcome of the queries without a thought")
    measure: Callable[[RetrievalOutcome], np.ndarray] = {
        "log_rank": _log_rank,
        "ndcg": lambda outcome: _ndcg(outcome, context.options.ndcg_k),
        "gap": _gap,
    }[context.options.gain_of]
    return measure(context.outcome) - measure(context.nothink)


@register_reward("repetition")
def repetition_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """−(share of the thought's 4-grams of tokens that occurred in it before), from −1 to 0.

    4 is `repetition_ngram`. A thought of fewer tokens gets 0.
    """
    size = context.options.repetition_ngram

    def repeated(thought: Thought) -> float:
        grams = _ngrams(thought.token_ids[:-1].tolist(), size)
        return 1.0 - len(grams) / max(grams.total(), 1) if grams else 0.0

    return -_per_thought(context, repeated)


@register_reward("copying")
def copying_reward(context: RewardContext) -> Float[np.ndarray, "P G"]:
    """−(share of the thought's 4-grams of words that occur in the query), from −1 to 0.

    Words are separated by white space. A thought of fewer than 4, or in a script without spaces,
    gets 0.
    """
    size = context.options.repetition_ngram
    rewards = np.zeros(context.shape)
    for prompt, (record, group) in enumerate(zip(context.records, context.thoughts, strict=True)):
        query_ngrams = _ngrams(record.query.lower().split(), size)
        for number, thought in enumerate(group):
            grams = _ngrams(thought.text.lower().split(), size)
            copied = sum(count for gram, count in grams.items() if gram in query_ngrams)
            rewards[prompt, number] = -copied / max(grams.total(), 1)
    return rewards


def _per_thought(
    context: RewardContext, value: Callable[[Thought], float]
) -> Float[np.ndarray, "P G"]:
    return np.array([[value(thought) for thought in group] for group in context.thoughts], float)


def _well_formed(thought: Thought, special_ids: frozenset[int]) -> bool:
    """Whether the thought is not empty and ends in its only, sampled `<emb_token>`.

    A thought that was not decoded has an empty text; then its tokens decide.
    """
    *reasoning, emb_token = thought.token_ids.tolist()
    blank = special_ids.issuperset(reasoning) or (thought.text != "" and not thought.text.strip())
    return emb_token not in reasoning and not thought.emb_token_appended and not blank


def _ranks(outcome: RetrievalOutcome) -> Float[np.ndarray, "P G R"]:
    """Ranks of the positives; infinity in padding."""
    return np.where(outcome.is_positive, outcome.positive_ranks, np.inf)


def _log_rank(outcome: RetrievalOutcome) -> Float[np.ndarray, "P G"]:
    """1 is the best, also with a single candidate."""
    best = _ranks(outcome).min(axis=2)
    return 1.0 - np.log(best) / np.log(np.maximum(outcome.candidates, 2))[:, None]


def _ndcg(outcome: RetrievalOutcome, k: int) -> Float[np.ndarray, "P G"]:
    ranks = _ranks(outcome)
    discounts = np.where(ranks <= k, 1.0 / np.log2(1.0 + ranks), 0.0)
    ideal = -np.sort(-outcome.positive_grades, axis=1)[:, :k]
    best = (ideal / np.log2(2.0 + np.arange(ideal.shape[1]))).sum(axis=1)
    return (outcome.positive_grades[:, None, :] * discounts).sum(axis=2) / best[:, None]


def _gap(outcome: RetrievalOutcome) -> Float[np.ndarray, "P G"]:
    """The mean of no negatives is 0."""
    is_negative = np.isfinite(outcome.hardest_negatives)
    negatives = np.where(is_negative, outcome.hardest_negatives, 0.0).sum(axis=2)
    positives = np.where(outcome.is_positive, outcome.positive_scores, 0.0).sum(axis=2)
    return positives / outcome.is_positive.sum(axis=2) - negatives / np.maximum(
        is_negative.sum(axis=2), 1
    )


def _ngrams(items: Sequence[T], size: int) -> Counter[tuple[T, ...]]:
    """Counts of the n-grams of `size` items."""
    return Counter(tuple(items[at : at + size]) for at in range(len(items) - size + 1))
