"""A run of anybody's scored as the rows of an evaluation are, beside BM25."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.evaluate import Evaluation, EvaluationConfig, evaluate_baselines
from t1_jax.retrieval import DROPPED_DOCUMENTS, Collection, Run, read_run, trec_ids


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
    given = _with_own_ids(path, read_run(path), collection)
    if not any(query.id in given for query in collection.queries):
        raise DataError(
            f"{path} ranks documents for none of the {len(collection.queries)} queries of "
            f"{collection.name}/{split}",
            hint="check the collection and --split",
        )
    run = GivenRun(name=path.stem, label=path.name, run=given)
    return evaluate_baselines([run], collection, config, split=split)


def _with_own_ids(path: Path, run: Run, collection: Collection) -> Run:
    """The run in the collection's ids, which a TREC file writes without spaces."""
    absent = (name for row in collection.absent_qrels.values() for name in row)
    documents = _originals(
        [*(document.id for document in collection.documents), *dict.fromkeys(absent)]
    )
    queries = _originals(query.id for query in collection.queries)
    unknown = {name: query for query, row in run.items() for name in row if name not in documents}
    # Such a document may be one that lenient reading dropped, and then it is merely unjudged.
    if len(unknown) > collection.notes.get(DROPPED_DOCUMENTS, 0):
        name, query_id = next(iter(unknown.items()))
        raise DataError(
            f"{path}: query {query_id!r} ranks the document {name!r}, which {collection.name} does "
            f"not have ({len(unknown):,} such documents)",
            hint="check the collection",
        )
    return {
        queries.get(query_id, query_id): {
            documents.get(name, name): score for name, score in scores.items()
        }
        for query_id, scores in run.items()
    }


def _originals(ids: Iterable[str]) -> Mapping[str, str]:
    """Each id by what a TREC file may call it: with "_" for spaces, or as it is."""
    written = trec_ids(ids)
    return {name: name for name in written} | {name: own for own, name in written.items()}
