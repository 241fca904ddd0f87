"""The layout of NanoBEIR: `corpus`, `queries` and `qrels` of a task as Parquet files."""

from collections.abc import Iterable, Set
from pathlib import Path

from t1_jax.retrieval.benchmarks.parquet import parquet_records
from t1_jax.retrieval.collection import Document, Query
from t1_jax.retrieval.jsonl import parse_relevance_label
from t1_jax.retrieval.load import add_distinct, parse_document
from t1_jax.retrieval.validation import (
    DUPLICATE_DOCUMENT,
    UNKNOWN_DOCUMENT,
    UNKNOWN_QUERY,
    ValidationReport,
)

Qrels = dict[str, dict[str, int]]


def read_parquet_documents(paths: Iterable[Path], report: ValidationReport) -> tuple[Document, ...]:
    """The documents, from `_id`, `text` and optionally `title`; a repeated id is kept once.

    Raises:
        DataError: a file is damaged, a field is malformed, or an id is repeated with other content;
            names file and row.
    """
    documents: dict[str, Document] = {}
    records = (
        record for path in paths for record in parquet_records(path, ["_id", "text"], ["title"])
    )
    items = ((record.location, parse_document(record, report)) for record in records)
    add_distinct(items, documents, DUPLICATE_DOCUMENT, report)
    return tuple(documents.values())


def read_parquet_queries(paths: Iterable[Path]) -> list[Query]:
    """The queries, from `_id` and `text`.

    Raises:
        DataError: a file is damaged, a field is malformed, or an id is repeated; names file and
            row.
    """
    queries: dict[str, Query] = {}
    for path in paths:
        for record in parquet_records(path, ["_id", "text"]):
            query = Query(id=record.id("_id"), text=record.text("text"))
            if query.id in queries:
                raise record.location.error(f"query {query.id!r} occurred before")
            queries[query.id] = query
    return list(queries.values())


def read_parquet_qrels(
    paths: Iterable[Path],
    queries: Set[str],
    documents: Set[str],
    report: ValidationReport,
) -> tuple[Qrels, Qrels]:
    """The qrels of documents that the corpus has, and of those that it lacks, which are reported.

    `queries` and `documents` are known ids. The columns are `query-id`, `corpus-id` and optionally
    `score`, which is 1 by default.

    Raises:
        DataError: a file is damaged, a field is malformed, or a pair has two labels; names file and
            row.
    """
    qrels: Qrels = {}
    for path in paths:
        for record in parquet_records(path, ["query-id", "corpus-id"], ["score"]):
            query_id, document_id = record.id("query-id"), record.id("corpus-id")
            label = parse_relevance_label(record.location, str(record.fields.get("score", 1)))
            if query_id not in queries:
                report.add(UNKNOWN_QUERY, record.location, f"unknown query {query_id!r}")
                continue
            labels = qrels.setdefault(query_id, {})
            if labels.setdefault(document_id, label) != label:
                raise record.location.error(
                    f"query {query_id!r} has two labels for document {document_id!r}"
                )
            if document_id not in documents:
                report.add(UNKNOWN_DOCUMENT, record.location, f"unknown document {document_id!r}")
    present, absent = (
        {
            query_id: {name: label for name, label in labels.items() if (name in documents) is here}
            for query_id, labels in qrels.items()
        }
        for here in (True, False)
    )
    return (
        {query_id: labels for query_id, labels in present.items() if labels},
        {query_id: labels for query_id, labels in absent.items() if labels},
    )
