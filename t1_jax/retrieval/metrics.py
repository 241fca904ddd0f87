"""nDCG, recall, precision, MAP and MRR as trec_eval computes them, without its silent cases.

trec_eval leaves a query that the run lacks out of the mean, lets NaN tie with everything, and
refuses numpy's scalars. Here a missing query counts 0 and is reported, a score that is not finite
is an error, and any real number will do.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import pytrec_eval

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.jsonl import MAX_GRADE
from t1_jax.retrieval.ranking import rank_documents

DEFAULT_MEASURES = ("nDCG@10", "recall@10", "recall@100", "MRR", "MAP")

_WITH_CUT = {"nDCG": "ndcg_cut", "recall": "recall", "P": "P", "MAP": "map_cut"}
_WITHOUT_CUT = {"MRR": "recip_rank", "MAP": "map"}


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """A run's measures, query by query.

    Attributes:
        per_query: measure -> query id -> value in [0, 1], for every query with a relevant document,
            in the order of the judgments.
        missing: queries among them that the run has no ranking for; they count 0.
        unscorable: judged queries without a relevant document; no measure is defined for them.
        unjudged: queries of the run that nobody judged; they are not scored.
    """

    per_query: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]
    unscorable: tuple[str, ...]
    unjudged: tuple[str, ...]

    def mean(self, measure: str) -> float:
        """The mean of a measure over all its queries."""
        return mean(self.per_query[measure].values())


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean.

    Raises:
        DataError: there is no value to average.
    """
    values = list(values)
    if not values:
        raise DataError("a mean over no queries was asked for")
    return float(np.mean(values))


def score_run(
    run: Mapping[str, Mapping[str, SupportsFloat]],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    metrics: Sequence[str] = DEFAULT_MEASURES,
    excluded: Mapping[str, Set[str]] | None = None,
    depth: int = 1000,
) -> RunScores:
    """Scores a run against judgments.

    Args:
        run: query id -> document id -> score.
        qrels: query id -> document id -> grade; only a grade above 0 is relevant.
        metrics: "nDCG@k", "recall@k", "P@k", "MAP@k", "MAP" or "MRR".
        excluded: query id -> document ids taken out before the ranking is cut.
        depth: how many documents of a ranking count at all.

    Raises:
        ConfigError: a measure of another name.
        DataError: a score that is NaN or infinite, with its query and document; a grade above
            `MAX_GRADE`; or no judged query has a relevant document.
    """
    names = {measure: _trec_name(measure) for measure in metrics}
    scorable = {
        query_id: {document_id: int(grade) for document_id, grade in grades.items()}
        for query_id, grades in qrels.items()
        if any(grade > 0 for grade in grades.values())
    }
    if not scorable:
        raise DataError("no query has a relevant document, so there is nothing to score")
    rankings = {
        query_id: _cut_ranking(query_id, run[query_id], (excluded or {}).get(query_id, ()), depth)
        for query_id in scorable
        if run.get(query_id)
    }
    for query_id, grades in scorable.items():
        if (highest := max(grades.values())) > MAX_GRADE:
            raise DataError(f"query {query_id!r} has the grade {highest}, above {MAX_GRADE}")
    evaluator = pytrec_eval.RelevanceEvaluator(scorable, {name for name, _ in names.values()})
    found = evaluator.evaluate(rankings) if rankings else {}
    return RunScores(
        per_query={
            measure: {query_id: found.get(query_id, {}).get(key, 0.0) for query_id in scorable}
            for measure, (_, key) in names.items()
        },
        missing=tuple(query_id for query_id in scorable if query_id not in rankings),
        unscorable=tuple(query_id for query_id in qrels if query_id not in scorable),
        unjudged=tuple(query_id for query_id in run if query_id not in qrels),
    )


def _trec_name(measure: str) -> tuple[str, str]:
    """What trec_eval calls a measure when asked for it, and in its answer."""
    if measure in _WITHOUT_CUT:
        return _WITHOUT_CUT[measure], _WITHOUT_CUT[measure]
    name, _, cut = measure.partition("@")
    if name not in _WITH_CUT or not re.fullmatch("[1-9][0-9]*", cut):
        known = ", ".join([*(f"{name}@k" for name in _WITH_CUT), *_WITHOUT_CUT])
        raise ConfigError(f"unknown measure {measure!r}", hint=f"use one of {known}")
    return f"{_WITH_CUT[name]}.{cut}", f"{_WITH_CUT[name]}_{cut}"


def _cut_ranking(
    query_id: str, scores: Mapping[str, SupportsFloat], excluded: Iterable[str], depth: int
) -> dict[str, float]:
    """The best `depth` documents that are not excluded, with their scores in float32."""
    taken_out = set(excluded)
    ids = [document_id for document_id in scores if document_id not in taken_out]
    with np.errstate(over="ignore"):  # it becomes infinite, which is refused
        values = np.array([scores[document_id] for document_id in ids], dtype=np.float32)
    try:
        order = rank_documents(values, ids, depth)
    except DataError as error:
        raise DataError(f"query {query_id!r}: {error.message}") from error
    return {ids[position]: float(values[position]) for position in order.tolist()}
