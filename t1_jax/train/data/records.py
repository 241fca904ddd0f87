"""Training records, sets of them with their corpus, and the examples of a step."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

from t1_jax.errors import DataError
from t1_jax.hub import EMB_TOKEN
from t1_jax.retrieval import (
    MAX_RELEVANCE_LABEL,
    Collection,
    Document,
    id_error,
    text_error,
    text_hash,
)

CORPUS_PREFIX = "doc:"
"""Begins the query ids of corpus pairs."""


@dataclass(frozen=True, kw_only=True)
class TrainingRecord:
    """A query with positives, hard negatives and reference thoughts.

    Attributes:
        query_id: unique in its set.
        query: the text, not blank.
        positives: document id -> grade, from 1 to `MAX_RELEVANCE_LABEL`; at least one document.
        negatives: ids of hard negatives; none is a positive or excluded.
        excluded: ids that are neither positive nor ever a negative of this query.
        thoughts: alternative reference thoughts; none is blank.
        instruction: replaces the preset's instruction for this query.

    Raises:
        DataError: a field violates the above.
    """

    query_id: str
    query: str
    positives: Mapping[str, int]
    negatives: tuple[str, ...] = ()
    excluded: frozenset[str] = frozenset()
    thoughts: tuple[str, ...] = ()
    instruction: str | None = None

    def __post_init__(self) -> None:
        fault = id_error(self.query_id)
        if fault:
            raise DataError(f"query {self.query_id!r}: {fault}")
        for fault, hint in self._faults():
            raise DataError(f"query {self.query_id!r}: {fault}", hint=hint)

    @property
    def best_positives(self) -> tuple[str, ...]:
        """The positives that share the best grade, in id order."""
        best = max(self.positives.values())
        return tuple(sorted(item for item, grade in self.positives.items() if grade == best))

    @property
    def is_of_corpus(self) -> bool:
        """Whether it is a corpus pair."""
        return self.query_id.startswith(CORPUS_PREFIX)

    @property
    def document_ids(self) -> tuple[str, ...]:
        """Ids of all documents of the record."""
        return (*self.positives, *self.negatives, *sorted(self.excluded))

    def _faults(self) -> Iterator[tuple[str, str | None]]:
        """(problem, hint) of invalid fields."""
        if fault := text_error(self.query):
            yield f"query: {fault}", None
        if not self.positives:
            yield "it has no positive", "add at least one relevant document"
        for name in self.document_ids:
            if fault := id_error(name):
                yield f"document {name!r}: {fault}", None
        for name, grade in self.positives.items():
            if grade < 1:
                yield f"the positive {name!r} has grade {grade}, below 1", "leave it out"
            if grade > MAX_RELEVANCE_LABEL:
                yield f"the positive {name!r} has grade {grade}, above {MAX_RELEVANCE_LABEL}", None
        yield from self._overlaps()
        for thought in self.thoughts:
            if fault := text_error(thought):
                yield f"thought: {fault}", "leave the thought out"
            if EMB_TOKEN in thought:
                yield (
                    f"a thought contains the text {EMB_TOKEN}",
                    "delete it from the thought: the trainer ends every thought with the token",
                )
        if self.instruction is not None and (fault := text_error(self.instruction)):
            yield f"instruction: {fault}", "leave it out"

    def _overlaps(self) -> Iterator[tuple[str, str | None]]:
        seen: set[str] = set()
        for name in self.negatives:
            if name in self.positives:
                yield f"the document {name!r} is both positive and negative", None
            if name in self.excluded:
                yield f"the document {name!r} is both negative and excluded", None
            if name in seen:
                yield f"the negative {name!r} occurs twice", None
            seen.add(name)
        for name in sorted(self.excluded & self.positives.keys()):
            yield f"the document {name!r} is both positive and excluded", None


@dataclass(frozen=True, kw_only=True)
class TrainingSet:
    """Records of one collection with its documents.

    Attributes:
        name: name of the collection.
        records: at least one, with unique ids.
        documents: id -> document, with all documents of the records.
        task: name of the preset's instruction for records without their own, see
            `Collection.task`.

    Raises:
        DataError: no record, a repeated id, or a record with an unknown document.
    """

    name: str
    records: tuple[TrainingRecord, ...]
    documents: Mapping[str, Document]
    task: str | None = None
    _text_keys: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _for_ranking: dict[str, TrainingRecord] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        if not self.records:
            raise DataError(f"the training set {self.name!r} has no record")
        if twice := first_repeated_id(self.records):
            raise DataError(f"{self.name}: the query {twice!r} occurs twice")
        self._check_documents()

    @cached_property
    def data_hash(self) -> str:
        """Hex SHA-256 of the records in order, and of the documents in any order."""
        digest = hashlib.sha256()
        for record in self.records:
            digest.update(json.dumps(record_fields(record), sort_keys=True).encode() + b"\n")
        for name in sorted(self.documents):
            item = self.documents[name]
            digest.update(json.dumps([name, item.title, item.text]).encode() + b"\n")
        return digest.hexdigest()

    def text_hash(self, document_id: str) -> str:
        """A key that is equal for documents of equal text, also across sets."""
        # Cached: every step asks for thousands of keys, most of them again.
        if document_id not in self._text_keys:
            self._text_keys[document_id] = text_hash(self.documents[document_id].full_text)
        return self._text_keys[document_id]

    def for_ranking(self, record: TrainingRecord) -> TrainingRecord:
        """The record for rankings, in which documents of equal text count once.

        Positives of equal text become one with their best grade. Other documents with the text of a
        positive, of an excluded document or of the query are excluded, since their embeddings are
        equal.
        """
        if record.query_id not in self._for_ranking:
            self._for_ranking[record.query_id] = self._without_copies(record)
        return self._for_ranking[record.query_id]

    def _without_copies(self, record: TrainingRecord) -> TrainingRecord:
        positives: dict[str, str] = {}
        for name, grade in record.positives.items():
            first = positives.setdefault(self.text_hash(name), name)
            if grade > record.positives[first]:
                positives[self.text_hash(name)] = name
        texts = {*positives, *map(self.text_hash, record.excluded), text_hash(record.query)}
        names = set(positives.values())
        copies = {name for text in texts for name in self._names_by_text.get(text, ())}
        excluded = frozenset((copies | record.excluded) - names)
        return replace(
            record,
            positives={name: grade for name, grade in record.positives.items() if name in names},
            negatives=tuple(name for name in record.negatives if name not in excluded),
            excluded=excluded,
        )

    @cached_property
    def _names_by_text(self) -> dict[str, list[str]]:
        """Text key -> ids of its documents."""
        names: dict[str, list[str]] = {}
        for name in self.documents:
            names.setdefault(self.text_hash(name), []).append(name)
        return names

    def _check_documents(self) -> None:
        unknown = [
            (record.query_id, name)
            for record in self.records
            for name in record.document_ids
            if name not in self.documents
        ]
        if unknown:
            query_id, name = unknown[0]
            more = f" (and {len(unknown) - 1} more such ids)" if unknown[1:] else ""
            raise DataError(
                f"{self.name}: query {query_id!r} names the document {name!r}, which is not in "
                f"the corpus{more}",
                hint="add the document to the corpus, or remove its id from the records",
            )


@dataclass(frozen=True, kw_only=True)
class Example:
    """One query of a step, with its sampled documents and thought.

    Attributes:
        set_name: name of the training set.
        record: the record of the query.
        positive: id of the sampled positive.
        negatives: ids of the sampled hard negatives, without repetition.
        thought: the sampled reference thought; None without one.
        task: see `TrainingSet.task`.
        candidates: titles that the prompt shows, as `candidate_titles` gives them; may be empty.
    """

    set_name: str
    record: TrainingRecord
    positive: str
    negatives: tuple[str, ...]
    thought: str | None
    task: str | None = None
    candidates: tuple[str, ...] = ()


def records_from_collection(collection: Collection) -> tuple[TrainingRecord, ...]:
    """A record without thoughts for every query with a positive, in the collection's order.

    Documents with a grade below 1 are not positives.

    Raises:
        DataError: a document is both positive for a query and excluded from its ranking.
    """
    positives = {
        query_id: {name: grade for name, grade in grades.items() if grade > 0}
        for query_id, grades in collection.qrels.items()
    }
    return tuple(
        TrainingRecord(
            query_id=query.id,
            query=query.text,
            positives=positives[query.id],
            excluded=collection.excluded.get(query.id, frozenset()),
        )
        for query in collection.queries
        if positives.get(query.id)
    )


def record_fields(record: TrainingRecord) -> dict[str, object]:
    """The record as a JSON object, without empty fields."""
    graded = any(grade != 1 for grade in record.positives.values())
    thoughts = record.thoughts[0] if len(record.thoughts) == 1 else list(record.thoughts)
    fields: dict[str, object] = {
        "query_id": record.query_id,
        "query": record.query,
        "positives": dict(record.positives) if graded else list(record.positives),
        "negatives": list(record.negatives),
        "excluded": sorted(record.excluded),
        "thought": thoughts,
        "instruction": record.instruction,
    }
    return {name: value for name, value in fields.items() if value not in (None, [])}


def sets_by_name(sets: Sequence[TrainingSet]) -> dict[str, TrainingSet]:
    """Name -> set.

    Raises:
        DataError: no set, or two of one name.
    """
    named = {item.name: item for item in sets}
    if not sets:
        raise DataError("there is no training set")
    if len(named) < len(sets):
        raise DataError(
            f"two training sets share a name; got {', '.join(item.name for item in sets)}",
            hint="join their records into one set",
        )
    return named


def first_repeated_id(records: Iterable[TrainingRecord]) -> str | None:
    """The first repeated query id, or None."""
    seen: set[str] = set()
    for record in records:
        if record.query_id in seen:
            return record.query_id
        seen.add(record.query_id)
    return None
