"""Scores the run of a retriever that ran elsewhere, from a file."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.evaluate.config import EvaluationConfig
from t1_jax.evaluate.protocol import evaluate_baselines
from t1_jax.evaluate.results import Evaluation
from t1_jax.progress import counted
from t1_jax.retrieval import (
    DROPPED_DOCUMENTS,
    DROPPED_RECORDS,
    Collection,
    Run,
    read_run,
    trec_names,
)


@dataclass(frozen=True, kw_only=True)
class RunFile:
    """The run of a retriever that ran elsewhere, as a `Baseline`."""

    name: str
    label: str
    run: Run

    def retrieve(self, collection: Collection, k: int) -> Run:
        """The whole run: scoring removes excluded documents and truncates."""
        return self.run


def evaluate_run_file(
    path: Path, collection: Collection, split: str, config: EvaluationConfig
) -> Evaluation:
    """Scores a run on a collection: TREC format, BRIGHT's score.json or a Tevatron ranking.

    A collection without documents, TREC topics and qrels alone, is enough; then BM25 has no row.

    Raises:
        DataError: a malformed line, a document that the collection lacks, or no query of it.
    """
    run = _with_original_ids(path, read_run(path), collection)
    if not collection.documents:
        config = replace(config, bm25=False, bm25qs=False)  # they would have nothing to rank
    if not any(query.id in run for query in collection.queries):
        raise DataError(
            f"{path} ranks documents for none of the {len(collection.queries)} queries of "
            f"{collection.name}/{split}",
            hint="check --collection and --split",
        )
    baseline = RunFile(name=path.stem, label=path.name, run=run)
    return evaluate_baselines([baseline], collection, config, split=split)


def _with_original_ids(path: Path, run: Run, collection: Collection) -> Run:
    """The run with the collection's ids; a TREC file writes them without spaces."""
    absent = (name for row in collection.absent_qrels.values() for name in row)
    documents = _original_ids(
        [*(document.id for document in collection.documents), *dict.fromkeys(absent)]
    )
    queries = _original_ids(query.id for query in collection.queries)
    unknown = {name: query for query, row in run.items() for name in row if name not in documents}
    # Lenient reading may have dropped such a document, which is then only unjudged.
    dropped = sum(collection.notes.get(key, 0) for key in (DROPPED_DOCUMENTS, DROPPED_RECORDS))
    if collection.documents and len(unknown) > dropped:
        name, query_id = next(iter(unknown.items()))
        raise DataError(
            f"{path}: query {query_id!r} ranks the document {name!r}, which {collection.name} does "
            f"not have ({counted(len(unknown), 'such documents')})",
            hint="check --collection",
        )
    return {
        queries.get(query_id, query_id): {
            documents.get(name, name): score for name, score in scores.items()
        }
        for query_id, scores in run.items()
    }


def _original_ids(ids: Iterable[str]) -> Mapping[str, str]:
    """Original id by its own name and by that in a TREC file, where "_" may replace spaces."""
    names = trec_names(ids)
    return {name: name for name in names.values()} | names
