"""Which thoughts are worth learning: those that bring a query closest to what answers it.

Every alternative is embedded with its query, as if the model had thought it, and judged by where
that vector puts the best positive among all documents.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Index
from t1_jax.train.data import TrainingRecord, TrainingSet

if TYPE_CHECKING:
    from t1_jax.retriever import T1


@dataclass(frozen=True, kw_only=True)
class ThoughtScore:
    """How well a query's vector finds what answers the query.

    Attributes:
        rank: of the best positive among the documents that are neither positive nor excluded.
        gap: cosine of the best positive less that of the nearest such document.
    """

    rank: int
    gap: float


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
    data: TrainingSet,
    model: "T1",
    index: Index,
    *,
    keep: int = 2,
    only_helpful: bool = False,
    task: str | None = None,
    show_progress_bar: bool = False,
) -> tuple[tuple[TrainingRecord, ...], ChoiceReport]:
    """The records with their best thoughts only, best first.

    A thought is better if the best positive ranks higher, then if the gap is larger, then if it
    stood first.

    Args:
        data: records; those without thoughts are left as they are.
        model: embeds queries with thoughts, and without.
        index: of the set's documents, by the same model.
        keep: the most thoughts a record keeps.
        only_helpful: drop thoughts that find the positive worse than no thought does, even all of
            a record's.
        task: name of an instruction in the model's preset; a record's own goes before it.
        show_progress_bar: draw bars.

    Raises:
        ConfigError: `keep` below 1.
        DataError: the index lacks a positive.
    """
    if keep < 1:
        raise ConfigError(f"keep must be at least 1, got {keep}")
    thoughtful = [record for record in data.records if record.thoughts]
    pairs = [(record, thought) for record in thoughtful for thought in record.thoughts]
    given = _embedded(model, pairs, task, show_progress_bar)
    bare = _embedded(model, [(record, None) for record in thoughtful], task, show_progress_bar)
    scores = iter(score_queries([record for record, _ in pairs], index, given))
    without = score_queries(thoughtful, index, bare)
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


def score_queries(
    records: Sequence[TrainingRecord], index: Index, vectors: Float[np.ndarray, "N E"]
) -> list[ThoughtScore]:
    """Where each vector puts the best positive of its record.

    Args:
        records: N of them; one may occur several times.
        index: of the documents.
        vectors: of the queries.

    Raises:
        DataError: the index lacks a positive.
    """
    if not records:
        return []
    row_of = index.table.row_of
    if lost := [(r.query_id, d) for r in records for d in r.best_positives if d not in row_of]:
        raise DataError(
            f"query {lost[0][0]!r} has the positive {lost[0][1]!r}, which the index lacks",
            mend="use an index of the records' own corpus",
        )
    rows = _padded([[row_of[name] for name in record.best_positives] for record in records])
    beside = [
        [row_of[name] for name in (*record.positives, *record.excluded) if name in row_of]
        for record in records
    ]
    ranks = index.rank_of(vectors, rows, excluded=beside)
    nearest = index.search(vectors, 1, excluded=beside).scores[:, 0]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        ThoughtScore(
            rank=int(row_ranks[row_rows >= 0].min()),
            gap=float((index.vectors[row_rows[row_rows >= 0]] @ unit).max() - other),
        )
        for row_ranks, row_rows, unit, other in zip(ranks, rows, units, nearest, strict=True)
    ]


def _embedded(
    model: "T1",
    pairs: Sequence[tuple[TrainingRecord, str | None]],
    task: str | None,
    show_progress_bar: bool,
) -> Float[np.ndarray, "N E"]:
    """A vector for each query with its thought; None embeds the query without thinking."""
    vectors = np.zeros((len(pairs), model.embed_dim), np.float32)
    for instruction in dict.fromkeys(record.instruction for record, _ in pairs):
        places = [i for i, (record, _) in enumerate(pairs) if record.instruction == instruction]
        thoughts = [thought for _, thought in (pairs[i] for i in places) if thought is not None]
        vectors[places] = model.encode_query(
            [pairs[i][0].query for i in places],
            query_ids=[pairs[i][0].query_id for i in places],
            thoughts=thoughts or None,
            think=bool(thoughts),
            task=None if instruction else task,
            instruction=instruction,
            show_progress_bar=show_progress_bar,
        )
    return vectors


def _padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "N R"]:
    widest = max(map(len, rows))
    return np.array([[*row, *[-1] * (widest - len(row))] for row in rows], np.int64)


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
