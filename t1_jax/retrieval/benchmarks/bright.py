"""The layout of BRIGHT: Parquet files of examples and documents, one of each for every task.

`["N/A"]` is an empty list of ids. Ids may contain spaces, and repeat with the same text. Excluded
ids need not be in the corpus.
"""

from collections.abc import Iterable, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

from t1_jax.retrieval.benchmarks.parquet import parquet_records
from t1_jax.retrieval.collection import Document, Query, SourceLocation
from t1_jax.retrieval.jsonl import Record
from t1_jax.retrieval.load import add_distinct
from t1_jax.retrieval.validation import (
    DUPLICATE_DOCUMENT,
    EMPTY_DOCUMENT,
    UNKNOWN_DOCUMENT,
    ValidationReport,
)

EXAMPLES = "examples"
"""Folder of the original queries; rewritten ones are in folders such as `gpt4_reason`."""

_NO_IDS = "N/A"


@dataclass(frozen=True, kw_only=True)
class Example:
    """One row of the examples.

    Attributes:
        location: file and row.
        query: the query.
        gold: ids of its relevant documents, as they are listed.
        excluded: ids of the documents to remove from its ranking.
    """

    location: SourceLocation
    query: Query
    gold: tuple[str, ...]
    excluded: frozenset[str]


def read_examples(paths: Iterable[Path], gold: str) -> list[Example]:
    """The examples of a task; `gold` is the field with the ids of relevant documents.

    Raises:
        DataError: a file is damaged, a field is malformed, a query id is repeated, or a relevant
            document is excluded; names file and row.
    """
    examples: dict[str, Example] = {}
    for path in paths:
        for record in parquet_records(path, ["id", "query", gold], ["excluded_ids"]):
            example = Example(
                location=record.location,
                query=Query(id=record.id("id"), text=record.text("query")),
                gold=tuple(name for name in record.ids(gold) if name != _NO_IDS),
                excluded=_excluded(record),
            )
            if example.query.id in examples:
                raise record.location.error(f"query {example.query.id!r} occurred before")
            if both := example.excluded.intersection(example.gold):
                raise record.location.error(
                    f"document {min(both)!r} of query {example.query.id!r} is both relevant and "
                    "excluded"
                )
            examples[example.query.id] = example
    return list(examples.values())


def _excluded(record: Record) -> frozenset[str]:
    """The excluded ids. Unknown ones are ignored, so only their type is checked: there are many."""
    value = record.fields.get("excluded_ids")
    ids = [] if value is None else value
    if not isinstance(ids, list) or not all(isinstance(name, str) for name in ids):
        raise record.location.error('field "excluded_ids" must be a list of strings')
    return frozenset(ids) - {_NO_IDS}


def read_bright_documents(paths: Iterable[Path], report: ValidationReport) -> tuple[Document, ...]:
    """The documents; a repeated id is kept once.

    Raises:
        DataError: a file is damaged, a field is malformed, or an id is repeated with another text;
            names file and row.
    """
    documents: dict[str, Document] = {}
    records = (record for path in paths for record in parquet_records(path, ["id", "content"]))
    items = ((record.location, _document(record, report)) for record in records)
    add_distinct(items, documents, DUPLICATE_DOCUMENT, report)
    return tuple(documents.values())


def _document(record: Record, report: ValidationReport) -> Document | None:
    identifier, text = record.id("id"), record.nullable_text("content")
    if not text:
        report.add(EMPTY_DOCUMENT, record.location, f"document {identifier!r}")
        return None
    return Document(id=identifier, text=text)


def split_qrels(
    examples: Sequence[Example], known: Set[str], report: ValidationReport
) -> tuple[dict[str, dict[str, int]], dict[str, dict[str, int]]]:
    """The qrels of documents that the corpus has, and of those that it lacks, which are reported.

    A relevance label is 1.
    """
    present: dict[str, dict[str, int]] = {}
    absent: dict[str, dict[str, int]] = {}
    for example in examples:
        for identifier in dict.fromkeys(example.gold):
            if identifier not in known:
                report.add(UNKNOWN_DOCUMENT, example.location, f"unknown document {identifier!r}")
            to = present if identifier in known else absent
            to.setdefault(example.query.id, {})[identifier] = 1
    return present, absent
