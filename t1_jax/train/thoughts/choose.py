"""Which thoughts are worth learning: those that bring a query closest to what answers it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from t1_jax.errors import ConfigError
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts.judges import Judge, ThoughtScore


@dataclass(frozen=True, kw_only=True)
class ChoiceReport:
    """What was kept, and what it is worth.

    Attributes:
        records: that had thoughts to choose from.
        thoughts: that there were.
        kept: that are left.
        first: records whose best thought puts a positive first.
        helped: records whose best thought finds it better than no thought does.
        hurt: records whose best thought finds it worse.
        mean_reciprocal_rank: "none" without a thought, "mean" over all alternatives, "best" with
            each record's best one.
        chosen: place among the alternatives -> records for which it was best.
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
    """The records with their best thoughts only, best first.

    A thought is better if the best positive ranks higher, then if the gap is larger, then if it
    stood first.

    Args:
        data: records; those without thoughts are left as they are.
        judge: says how well a query finds what answers it, with each thought and without any.
        keep: the most thoughts a record keeps.
        only_helpful: drop thoughts that find the positive worse than no thought does, even all of
            a record's.

    Raises:
        ConfigError: `keep` below 1.
        DataError: the judge does not know a positive.
    """
    if keep < 1:
        raise ConfigError(f"keep must be at least 1, got {keep}")
    thoughtful = [record for record in data.records if record.thoughts]
    # A copy of a positive under another id ranks as high and is no rival.
    ranked = [data.for_ranking(record) for record in thoughtful]
    scores = iter(judge([(record, thought) for record in ranked for thought in record.thoughts]))
    without = judge([(record, None) for record in ranked])
    alternatives = {
        record.query_id: [next(scores) for _ in record.thoughts] for record in thoughtful
    }
    baseline = {record.query_id: score for record, score in zip(thoughtful, without, strict=True)}
    chosen = {
        name: _best(found, baseline[name] if only_helpful else None, keep)
        for name, found in alternatives.items()
    }
    kept = tuple(
        replace(record, thoughts=tuple(record.thoughts[i] for i in chosen[record.query_id]))
        if record.thoughts
        else record
        for record in data.records
    )
    return kept, _report(alternatives, baseline, chosen)


def _order(score: ThoughtScore) -> tuple[int, float]:
    return score.rank, -score.gap


def _best(found: Sequence[ThoughtScore], floor: ThoughtScore | None, keep: int) -> list[int]:
    """Places of the best scores, none of them below the floor."""
    places = sorted(range(len(found)), key=lambda place: _order(found[place]))
    if floor is not None:
        places = [place for place in places if _order(found[place]) <= _order(floor)]
    return places[:keep]


def _report(
    alternatives: Mapping[str, Sequence[ThoughtScore]],
    baseline: Mapping[str, ThoughtScore],
    chosen: Mapping[str, Sequence[int]],
) -> ChoiceReport:
    best = {name: min(found, key=_order) for name, found in alternatives.items()}
    places = [min(range(len(f)), key=lambda i: _order(f[i])) for f in alternatives.values()]
    means = {
        "none": [1 / score.rank for score in baseline.values()],
        "mean": [1 / score.rank for found in alternatives.values() for score in found],
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
        chosen={place: places.count(place) for place in sorted(set(places))},
    )
