"""A run of anybody's scored as the rows of an evaluation are, beside BM25."""

import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.evaluate import (
    BM25Baseline,
    Evaluation,
    EvaluationConfig,
    evaluate_baseline,
    scorable_queries,
)
from t1_jax.retrieval import Collection, Run, read_run, trec_ids


@dataclass(frozen=True, kw_only=True)
class GivenRun:
    """A retriever that was run elsewhere; see `t1_jax.evaluate.Baseline`."""

    name: str
    label: str
    run: Run

    def retrieve(self, collection: Collection, k: int) -> Run:
        """The run as it was given: scoring takes out excluded documents and cuts."""
        return self.run


def score_run_file(
    path: Path, collection: Collection, split: str, config: EvaluationConfig
) -> Evaluation:
    """Scores a TREC run on a collection.

    Raises:
        DataError: a malformed line, a document that the collection lacks, or no query of it.
    """
    started, start = datetime.now(UTC), time.perf_counter()
    scorable = scorable_queries(collection, config)
    given = _with_own_ids(path, read_run(path), collection)
    if not any(query.id in given for query in scorable.queries):
        raise DataError(
            f"{path} ranks documents for none of the {len(scorable.queries)} queries of "
            f"{collection.name}/{split}",
            mend="check the collection and --split",
        )
    baselines = [GivenRun(name=path.stem, label=path.name, run=given)]
    rows = [evaluate_baseline(baseline, scorable, config) for baseline in baselines]
    if config.bm25:
        rows.insert(0, evaluate_baseline(BM25Baseline(), scorable, config))
    return Evaluation(
        collection=scorable,
        split=split,
        left_out=len(collection.queries) - len(scorable.queries),
        rows=tuple(rows),
        systems=(),
        started=started.isoformat(timespec="seconds"),
        seconds=time.perf_counter() - start,
        bootstrap_samples=config.bootstrap_samples,
        bootstrap_seed=config.bootstrap_seed,
    )


def _with_own_ids(path: Path, run: Run, collection: Collection) -> Run:
    """The run in the collection's ids, which a TREC file writes without spaces."""
    documents = _originals(document.id for document in collection.documents)
    queries = _originals(query.id for query in collection.queries)
    for query_id, scores in run.items():
        if unknown := [name for name in scores if name not in documents]:
            raise DataError(
                f"{path}: query {query_id!r} ranks the document {unknown[0]!r}, which "
                f"{collection.name} does not have",
                mend="check the collection",
            )
    return {
        queries[query_id]: {documents[name]: score for name, score in scores.items()}
        for query_id, scores in run.items()
        if query_id in queries
    }


def _originals(ids: Iterable[str]) -> Mapping[str, str]:
    return {written: original for original, written in trec_ids(ids).items()}
