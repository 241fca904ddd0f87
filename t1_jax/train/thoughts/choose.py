"""Best-of-n selection of thoughts: those with which a query ranks its positive highest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t1_jax.errors import ConfigError
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts.judges import Judge, ThoughtScore


@dataclass(frozen=True, kw_only=True)
class ChoiceReport:
    """Counts and scores of a selection.

    Attributes:
        records: records with thoughts.
        thoughts: thoughts before the selection.
        kept: thoughts after it.
        first: records whose best thought ranks a positive first.
        helped: records whose best thought ranks it higher than no thought.
        hurt: records whose best thought ranks it lower.
        mean_reciprocal_rank: "none" without a thought, "mean" over all thoughts, "best" with each
            record's best one.
        chosen: index among a record's thoughts -> records for which it is best.
    """

    records: int
    thoughts: int
    kept: int
    first: int
    helped: int
    hurt: int
    mean_reciprocal_rank: Mapping[str, float]
    chosen: Mapping[int, int]


def choose_thoughts(
    data: TrainingSet, judge: Judge, *, keep: int = 2, only_helpful: bool = False
) -> tuple[tuple[TrainingRecord, ...], ChoiceReport]:
    """Keeps the best thoughts of each record, best first.

    Thoughts are ordered by the rank of the best positive, then by the gap, then by their order in
    the record. `only_helpful` drops those that rank the positive lower than no thought does, even
    if none remains. Records without thoughts do not change.

    Raises:
        ConfigError: `keep` is below 1.
        DataError: the judge does not know a positive.
    """
    if keep < 1:
        raise ConfigError(f"keep must be at least 1, got {keep}")
    with_thoughts = [record for record in data.records if record.thoughts]
    # A copy of a positive under another id is not a competitor.
    ranked = [data.for_ranking(record) for record in with_thoughts]
    judged = iter(judge([(record, thought) for record in ranked for thought in record.thoughts]))
    without = judge([(record, None) for record in ranked])
    alternatives = {r.query_id: [next(judged) for _ in r.thoughts] for r in with_thoughts}
    baseline = {r.query_id: score for r, score in zip(with_thoughts, without, strict=True)}
    chosen = {
        name: _best(scores, baseline[name] if only_helpful else None, keep)
        for name, scores in alternatives.items()
    }
    updated = tuple(
        replace(record, thoughts=tuple(record.thoughts[i] for i in chosen[record.query_id]))
        if record.thoughts
        else record
        for record in data.records
    )
    return updated, _report(alternatives, baseline, chosen)


def _order(score: ThoughtScore) -> tuple[int, float]:
    return score.rank, -score.gap


def _best(scores: Sequence[ThoughtScore], least: ThoughtScore | None, keep: int) -> list[int]:
    """Indices of the best scores that are at least `least`."""
    order = sorted(range(len(scores)), key=lambda index: _order(scores[index]))
    if least is not None:
        order = [index for index in order if _order(scores[index]) <= _order(least)]
    return order[:keep]


def _report(
    alternatives: Mapping[str, Sequence[ThoughtScore]],
    baseline: Mapping[str, ThoughtScore],
    chosen: Mapping[str, Sequence[int]],
) -> ChoiceReport:
    best = {name: min(scores, key=_order) for name, scores in alternatives.items()}
    indices = [min(range(len(s)), key=lambda i: _order(s[i])) for s in alternatives.values()]
    means = {
        "none": [1 / score.rank for score in baseline.values()],
        "mean": [1 / score.rank for scores in alternatives.values() for score in scores],
        "best": [1 / score.rank for score in best.values()],
    }
    return ChoiceReport(
        records=len(alternatives),
        thoughts=sum(map(len, alternatives.values())),
        kept=sum(map(len, chosen.values())),
        first=sum(score.rank == 1 for score in best.values()),
        helped=sum(_order(best[name]) < _order(baseline[name]) for name in best),
        hurt=sum(_order(best[name]) > _order(baseline[name]) for name in best),
        mean_reciprocal_rank={
            name: float(np.mean(values)) if values else 0.0 for name, values in means.items()
        },
        chosen={index: indices.count(index) for index in sorted(set(indices))},
    )
