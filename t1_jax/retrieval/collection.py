"""A judged collection: documents, queries, and which documents answer which query."""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property

from t1_jax.errors import DataError


@dataclass(frozen=True, kw_only=True)
class Document:
    """One retrievable text.

    Attributes:
        id: unique in its collection; no control characters. Spaces are allowed, as BRIGHT has them.
        text: the body; blank only if there is a title.
        title: may be empty.

    Raises:
        DataError: a field does not keep to the above, or cannot be written as UTF-8.
    """

    id: str
    text: str
    title: str = ""

    def __post_init__(self) -> None:
        title_only = self.title and not self.text.strip()
        _check("document", self.id, None if title_only else fault_of_text(self.text))
        _check("title of document", self.id, self.title and fault_of_text(self.title))

    @property
    def full_text(self) -> str:
        """What a retriever reads: the title on a line of its own, then the text."""
        if not self.text.strip():
            return self.title
        return f"{self.title}\n{self.text}" if self.title else self.text


@dataclass(frozen=True, kw_only=True)
class Query:
    """One question put to the collection: an id, unique among queries, and a text, never blank.

    Raises:
        DataError: a field does not keep to that, or cannot be written as UTF-8.
    """

    id: str
    text: str

    def __post_init__(self) -> None:
        _check("query", self.id, fault_of_text(self.text))


@dataclass(frozen=True, kw_only=True)
class Collection:
    """Documents, queries and judgments of one split; consistent by construction.

    Attributes:
        name: what tables and file names call it.
        documents: in a fixed order; ids are unique.
        queries: in a fixed order; ids are unique.
        qrels: query id -> document id -> grade. A grade above 0 means relevant, higher is better.
        excluded: query id -> ids of documents that are taken out of that query's ranking before it
            is cut to the top k.
        metadata: source, licence, attribution and hashes of what the collection was built from.
        absent_qrels: judgments, in the form of `qrels`, of documents that the collection lacks. No
            ranking can hold them, but scores count them, as trec_eval does; see `all_qrels`.
        notes: what the files held beyond a consistent collection and how often, as sentences for
            a user; see `t1_jax.retrieval.load_collection`. Not compared.
        task: name of the instruction in a prompt preset that these queries are to be put with. Only
            a collection that is opened by its known name has one: the name of a folder or of a
            file never chooses an instruction.

    Raises:
        DataError: an id twice, or a judgment or exclusion that names an unknown id.
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
                    f"{self.name}: the absent judgments of query {query_id!r} name a document that "
                    "is there, or the query is not"
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
        """Every document under its id."""
        return {document.id: document for document in self.documents}

    @cached_property
    def all_qrels(self) -> Mapping[str, Mapping[str, int]]:
        """What a run is scored against: `qrels` and `absent_qrels` together."""
        if not self.absent_qrels:
            return self.qrels
        return {
            query.id: {**self.qrels.get(query.id, {}), **self.absent_qrels.get(query.id, {})}
            for query in self.queries
            if query.id in self.qrels or query.id in self.absent_qrels
        }

    @cached_property
    def data_hash(self) -> str:
        """Hex SHA-256 of all ids, titles and texts of the documents, whatever their order."""
        return _hash(sorted((item.id, item.title, item.text) for item in self.documents))

    @cached_property
    def qrels_hash(self) -> str:
        """Hex SHA-256 of what is asked and judged: two scores compare if theirs are equal.

        It covers texts, grades and exclusions of every query that has a judgment.
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

    def gold_documents(self, query_id: str) -> tuple[Document, ...]:
        """The documents that share the query's best positive grade, in id order; may be none."""
        grades = self.qrels.get(query_id, {})
        best = max(grades.values(), default=0)
        return tuple(
            self.documents_by_id[document_id]
            for document_id in sorted(grades)
            if grades[document_id] == best > 0
        )

    def gold_titles(self, query_id: str) -> tuple[str, ...]:
        """Titles of the gold documents: what a perfect thought would name.

        A document without a title gives the first line of its text.
        """
        gold = self.gold_documents(query_id)
        return tuple(document.full_text.strip().splitlines()[0] for document in gold)

    def subset_queries(self, n: int, *, seed: int = 0) -> "Collection":
        """The collection with `n` of its queries, or all if it has no more, in their old order.

        Which ones depends on `seed` and the ids alone, and a smaller subset lies inside a larger.

        Raises:
            DataError: `n` is below 1.
        """
        if n < 1:
            raise DataError(f"a subset of {n} queries of {self.name} was asked for; at least 1")

        def draw(query: Query) -> str:
            return hashlib.sha256(f"{seed}\n{query.id}".encode()).hexdigest()

        return self.with_queries(query.id for query in sorted(self.queries, key=draw)[:n])

    def with_queries(self, ids: Iterable[str]) -> "Collection":
        """The collection with these of its queries alone, in their old order."""
        chosen = set(ids)
        return replace(
            self,
            queries=tuple(query for query in self.queries if query.id in chosen),
            qrels={key: grades for key, grades in self.qrels.items() if key in chosen},
            excluded={key: ids for key, ids in self.excluded.items() if key in chosen},
            absent_qrels={key: row for key, row in self.absent_qrels.items() if key in chosen},
        )


def fault_of_id(value: str) -> str | None:
    """What is wrong with an identifier, or None: it must be printable UTF-8 and not empty."""
    if not value.strip():
        return "the id is empty"
    if any(ord(character) < 32 or ord(character) == 127 for character in value):
        return "the id has a control character"
    return _fault_of_encoding(value)


def fault_of_text(value: str) -> str | None:
    """What is wrong with a text, or None: it must be UTF-8 and not blank."""
    return _fault_of_encoding(value) if value.strip() else "the text is empty"


def _check(kind: str, identifier: str, fault_of_content: str | None) -> None:
    fault = fault_of_id(identifier) or fault_of_content
    if fault:
        raise DataError(f"{kind} {identifier!r}: {fault}")


def _fault_of_encoding(value: str) -> str | None:
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
