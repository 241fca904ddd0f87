"""A test collection: documents, queries and relevance labels (qrels)."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.progress import counted, shorten

_SHORT_HASH = 16
"""Hex digits of a hash that is stored for every query."""


@dataclass(frozen=True, kw_only=True)
class SourceLocation:
    """A line of a file, counted from 1."""

    path: Path
    line: int

    def error(self, message: str, *, hint: str | None = None) -> DataError:
        """A DataError whose message begins with `path:line`."""
        return DataError(f"{self.path}:{self.line}: {message}", hint=hint)


@dataclass(frozen=True, kw_only=True, repr=False)
class Document:
    """One retrievable text.

    Attributes:
        id: unique in its collection, without control characters; spaces are allowed (BRIGHT).
        text: body; blank only if there is a title.
        title: may be empty.
        location: the file, relative to the folder that was read, and the first line of the text;
            None where documents have ids of their own. Not compared.

    Raises:
        DataError: a field breaks these rules or cannot be encoded as UTF-8.
    """

    id: str
    text: str
    title: str = ""
    location: SourceLocation | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        title_only = self.title and not self.text.strip()
        _check("document", self.id, None if title_only else text_error(self.text))
        _check("title of document", self.id, self.title and text_error(self.title))

    def __repr__(self) -> str:
        return f"Document({self.id!r}, {shorten(self.full_text, 60)!r})"

    @property
    def full_text(self) -> str:
        """Text for the retriever: the title on a line of its own, then the body."""
        if not self.text.strip():
            return self.title
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, kw_only=True, repr=False)
class Query:
    """One query.

    Attributes:
        id: unique in its collection, without control characters.
        text: not blank.

    Raises:
        DataError: a field breaks these rules or cannot be encoded as UTF-8.
    """

    id: str
    text: str

    def __post_init__(self) -> None:
        _check("query", self.id, text_error(self.text))

    def __repr__(self) -> str:
        return f"Query({self.id!r}, {shorten(self.text, 60)!r})"


@dataclass(frozen=True, kw_only=True, repr=False)
class Collection:
    """Documents, queries and qrels of one split; the constructor checks that ids match.

    Attributes:
        name: name in tables and file names.
        documents: in a fixed order; ids are unique.
        queries: in a fixed order; ids are unique.
        qrels: query id -> document id -> relevance label. A label above 0 means relevant; higher is
            better.
        excluded: query id -> ids of documents to remove from its ranking before the top-k cut.
        metadata: source, license, attribution and hashes of the data.
        absent_qrels: qrels of documents that the collection lacks, in the form of `qrels`. No
            ranking can contain them, but metrics count them, as in trec_eval; see `all_qrels`.
        notes: problem in the files -> count, written for users; see
            `t1_jax.retrieval.load_collection`. Not compared.
        task: name of the instruction in a prompt preset for these queries. Only a collection opened
            by its registered name has one: the name of a folder or file never selects an
            instruction.

    Raises:
        DataError: a duplicate id, or a qrel or exclusion with an unknown id.
    """

    name: str
    documents: tuple[Document, ...]
    queries: tuple[Query, ...]
    qrels: Mapping[str, Mapping[str, int]]
    excluded: Mapping[str, frozenset[str]] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)
    absent_qrels: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notes: Mapping[str, int] = field(default_factory=dict, compare=False)
    task: str | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        documents = self._unique_ids("document", self.documents)
        queries = self._unique_ids("query", self.queries)
        for kind, table in (("qrels", self.qrels), ("exclusions", self.excluded)):
            for query_id, document_ids in table.items():
                if query_id not in queries:
                    raise DataError(f"{self.name}: {kind} name the unknown query {query_id!r}")
                for unknown in document_ids:
                    if unknown not in documents:
                        raise DataError(
                            f"{self.name}: {kind} of query {query_id!r} name the unknown document "
                            f"{unknown!r}"
                        )
        for query_id, document_ids in self.absent_qrels.items():
            if query_id not in queries or not documents.isdisjoint(document_ids):
                raise DataError(
                    f"{self.name}: absent_qrels of query {query_id!r} name a document that the "
                    "collection has, or the query is unknown"
                )

    def __repr__(self) -> str:
        documents, queries = len(self.documents), len(self.queries)
        return (
            f"Collection({self.name!r}, {counted(documents, 'documents')}, "
            f"{counted(queries, 'queries')})"
        )

    def _unique_ids(self, kind: str, items: Iterable[Document | Query]) -> set[str]:
        seen: set[str] = set()
        for item in items:
            if item.id in seen:
                raise DataError(f"{self.name}: the {kind} {item.id!r} occurs twice")
            seen.add(item.id)
        return seen

    @cached_property
    def documents_by_id(self) -> Mapping[str, Document]:
        """Document id -> document."""
        return {document.id: document for document in self.documents}

    @cached_property
    def _query_texts(self) -> Mapping[str, str]:
        return {query.id: query.text for query in self.queries}

    @cached_property
    def all_qrels(self) -> Mapping[str, Mapping[str, int]]:
        """`qrels` and `absent_qrels` together: the qrels that runs are scored with."""
        if not self.absent_qrels:
            return self.qrels
        return {
            query.id: {**self.qrels.get(query.id, {}), **self.absent_qrels.get(query.id, {})}
            for query in self.queries
            if query.id in self.qrels or query.id in self.absent_qrels
        }

    @cached_property
    def data_hash(self) -> str:
        """Hex SHA-256 of the ids, titles and texts of all documents, independent of their order."""
        return _hash(sorted((item.id, item.title, item.text) for item in self.documents))

    @cached_property
    def qrels_hash(self) -> str:
        """Hex SHA-256 of text, qrels and exclusions of every query with qrels.

        Scores are comparable if their hashes are equal.
        """
        return _hash(
            (
                query.id,
                query.text,
                sorted(self.all_qrels[query.id].items()),
                sorted(self.excluded.get(query.id, ())),
            )
            for query in sorted(self.queries, key=lambda query: query.id)
            if self.all_qrels.get(query.id)
        )

    def query_hashes(self, query_id: str) -> dict[str, str]:
        """Short hashes of what a query's score depends on: its `text`, `qrels` and `excluded`."""
        parts = {
            "text": self._query_texts[query_id],
            "qrels": sorted(self.all_qrels.get(query_id, {}).items()),
            "excluded": sorted(self.excluded.get(query_id, ())),
        }
        return {name: _hash([(part,)])[:_SHORT_HASH] for name, part in parts.items()}

    def gold_documents(self, query_id: str) -> tuple[Document, ...]:
        """The documents with the query's highest positive label, in id order; may be empty."""
        labels = self.qrels.get(query_id, {})
        best = max(labels.values(), default=0)
        return tuple(
            self.documents_by_id[document_id]
            for document_id in sorted(labels)
            if labels[document_id] == best > 0
        )

    def gold_titles(self, query_id: str) -> tuple[str, ...]:
        """Titles of the gold documents: the content of a perfect thought.

        The first line of the text replaces a missing title.
        """
        gold = self.gold_documents(query_id)
        return tuple(document.full_text.strip().splitlines()[0] for document in gold)

    def subset_queries(self, n: int, *, seed: int = 0) -> "Collection":
        """The collection with a random sample of `n` queries (or all), in their original order.

        The sample depends on `seed` and the query ids only; a smaller sample is a subset of a
        larger one.

        Raises:
            DataError: `n` is below 1.
        """
        if n < 1:
            raise DataError(f"{self.name}: the number of queries must be at least 1, got {n}")

        def random_key(query: Query) -> str:
            return hashlib.sha256(f"{seed}\n{query.id}".encode()).hexdigest()

        return self.with_queries(query.id for query in sorted(self.queries, key=random_key)[:n])

    def with_queries(self, ids: Iterable[str]) -> "Collection":
        """The collection with the given queries only, in their original order."""
        chosen = set(ids)
        return replace(
            self,
            queries=tuple(query for query in self.queries if query.id in chosen),
            qrels={key: labels for key, labels in self.qrels.items() if key in chosen},
            excluded={key: ids for key, ids in self.excluded.items() if key in chosen},
            absent_qrels={key: row for key, row in self.absent_qrels.items() if key in chosen},
        )


def id_error(value: str) -> str | None:
    """Error message for an invalid id, or None: ids are not empty, printable and valid UTF-8."""
    if not value.strip():
        return "the id is empty"
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        return "the id has a control character"
    return _encoding_error(value)


def text_error(value: str) -> str | None:
    """Error message for an invalid text, or None: texts are not blank and valid UTF-8."""
    return _encoding_error(value) if value.strip() else "the text is empty"


def _check(kind: str, identifier: str, content_error: str | None) -> None:
    message = id_error(identifier) or content_error
    if message:
        raise DataError(f"{kind} {identifier!r}: {message}")


def _encoding_error(value: str) -> str | None:
    try:
        value.encode()
    except UnicodeEncodeError as error:
        return f"character {error.start} is half of a surrogate pair, which UTF-8 cannot hold"
    return None


def _hash(rows: Iterable[tuple[object, ...]]) -> str:
    digest = hashlib.sha256()
    for row in rows:
        digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
    return digest.hexdigest()
