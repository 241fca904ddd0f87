"""nDCG, recall, precision, MAP and MRR as in trec_eval, without its silent failures.

trec_eval drops queries that the run lacks from the mean, ranks NaN arbitrarily and rejects NumPy
scalars. Here a missing query counts 0 and is reported, a score that is not finite raises an error,
and any real number is accepted.
"""

import re
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from typing import SupportsFloat

import numpy as np
import pytrec_eval

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.jsonl import MAX_RELEVANCE_LABEL
from t1_jax.retrieval.ranking import rank_documents

DEFAULT_METRICS = ("nDCG@10", "recall@10", "recall@100", "MRR", "MAP")

_WITH_CUT = {"nDCG": "ndcg_cut", "recall": "recall", "P": "P", "MAP": "map_cut"}
_WITHOUT_CUT = {"MRR": "recip_rank", "MAP": "map"}


@dataclass(frozen=True, kw_only=True)
class RunScores:
    """Metrics of a run, per query.

    Attributes:
        per_query: metric -> query id -> value in [0, 1], for every query with a relevant document,
            in the order of the qrels.
        missing: ids of queries in `per_query` without results in the run; they count 0.
        without_relevant: ids of queries in the qrels without a relevant document; no metric is
            defined for them.
        without_qrels: ids of queries in the run without qrels; they are not scored.
    """

    per_query: Mapping[str, Mapping[str, float]]
    missing: tuple[str, ...]
    without_relevant: tuple[str, ...]
    without_qrels: tuple[str, ...]

    def mean(self, metric: str) -> float:
        """Mean of a metric over all queries in `per_query`."""
        return mean(self.per_query[metric].values())


def mean(values: Iterable[float]) -> float:
    """The arithmetic mean.

    Raises:
        DataError: there are no values.
    """
    values = list(values)
    if not values:
        raise DataError("the mean over zero queries is undefined")
    return float(np.mean(values))


def score_run(
    run: Mapping[str, Mapping[str, SupportsFloat]],
    qrels: Mapping[str, Mapping[str, int]],
    *,
    metrics: Sequence[str] = DEFAULT_METRICS,
    excluded: Mapping[str, Set[str]] | None = None,
    depth: int = 1000,
) -> RunScores:
    """Scores a run with qrels.

    Args:
        run: query id -> document id -> score.
        qrels: query id -> document id -> relevance label; a label above 0 means relevant.
        metrics: names: "nDCG@k", "recall@k", "P@k", "MAP@k", "MAP" or "MRR".
        excluded: query id -> ids of documents to remove before the ranking is cut.
        depth: number of top documents of a ranking that are scored.

    Raises:
        ConfigError: unknown metric.
        DataError: a score is NaN or infinite (names query and document), a label exceeds
            `MAX_RELEVANCE_LABEL`, or no query has a relevant document.
    """
    names = {metric: _trec_name(metric) for metric in metrics}
    scorable = {
        query_id: {document_id: int(label) for document_id, label in labels.items()}
        for query_id, labels in qrels.items()
        if any(label > 0 for label in labels.values())
    }
    if not scorable:
        raise DataError("no query has a relevant document, so there is nothing to score")
    rankings = {
        query_id: _cut_ranking(query_id, run[query_id], (excluded or {}).get(query_id, ()), depth)
        for query_id in scorable
        if run.get(query_id)
    }
    for query_id, labels in scorable.items():
        if (highest := max(labels.values())) > MAX_RELEVANCE_LABEL:
            raise DataError(
                f"query {query_id!r} has the relevance label {highest}, above {MAX_RELEVANCE_LABEL}"
            )
    evaluator = pytrec_eval.RelevanceEvaluator(scorable, {name for name, _ in names.values()})
    evaluated = evaluator.evaluate(rankings) if rankings else {}
    return RunScores(
        per_query={
            metric: {query_id: evaluated.get(query_id, {}).get(key, 0.0) for query_id in scorable}
            for metric, (_, key) in names.items()
        },
        missing=tuple(query_id for query_id in scorable if query_id not in rankings),
        without_relevant=tuple(query_id for query_id in qrels if query_id not in scorable),
        without_qrels=tuple(query_id for query_id in run if query_id not in qrels),
    )


def _trec_name(metric: str) -> tuple[str, str]:
    """Name of a metric in the request to trec_eval, and its key in the result."""
    if metric in _WITHOUT_CUT:
        return _WITHOUT_CUT[metric], _WITHOUT_CUT[metric]
    name, _, cut = metric.partition("@")
    if name not in _WITH_CUT or not re.fullmatch("[1-9][0-9]*", cut):
        known = ", ".join([*(f"{name}@k" for name in _WITH_CUT), *_WITHOUT_CUT])
        raise ConfigError(f"unknown metric {metric!r}", hint=f"use one of {known}")
    return f"{_WITH_CUT[name]}.{cut}", f"{_WITH_CUT[name]}_{cut}"


def _cut_ranking(
    query_id: str, scores: Mapping[str, SupportsFloat], excluded: Iterable[str], depth: int
) -> dict[str, float]:
    """The top `depth` documents that are not excluded, with their scores in float32."""
    excluded = set(excluded)
    ids = [document_id for document_id in scores if document_id not in excluded]
    with np.errstate(over="ignore"):  # an overflow becomes inf, which raises below
        values = np.array([scores[document_id] for document_id in ids], dtype=np.float32)
    try:
        order = rank_documents(values, ids, depth)
    except DataError as error:
        raise DataError(f"query {query_id!r}: {error.message}") from error
    return {ids[position]: float(values[position]) for position in order.tolist()}
