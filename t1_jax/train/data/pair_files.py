"""Query-passage pairs in the formats of other libraries, as training records with a corpus.

plain: `query`, `positive` (a text, an id, or a list); optional `negative`, `thought`, `instruction`
sentence-transformers: `anchor`, `positive`, `negative` or `negative_1`, ...; `question`, `answer`;
    `sentence1`, `sentence2`, `label`; or a JSON list [anchor, positive, negative]
Tevatron: `query`, and `positive_passages` and `negative_passages`, objects with `docid`, `title`,
    `text`; or `query_text`, `positive_document_ids`, `negative_document_ids`, with a corpus
FlagEmbedding: `query`, and `pos` and `neg`, lists of texts
training records: `query_id`, `query`, `positives`, ... as in `record_files.py`, with a corpus
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t1_jax.config import suggestion
from t1_jax.errors import DataError
from t1_jax.retrieval import Collection, Document, SourceLocation, id_error, text_error, text_hash
from t1_jax.train.data.records import TrainingRecord, records_from_collection
from t1_jax.train.data.table_files import Row, read_rows

_QUERY = ("query", "anchor", "question", "query_text", "sentence1")
_POSITIVE = (
    "positive",
    "positives",
    "pos",
    "answer",
    "positive_passages",
    "positive_document_ids",
    "passage",
    "document",
    "sentence2",
)
_NEGATIVE = (
    "negative",
    "negatives",
    "neg",
    "hard_negatives",
    "negative_passages",
    "negative_document_ids",
)
_THOUGHT = ("thought", "thoughts")
_ID_LISTS = ("positive_document_ids", "negative_document_ids", "excluded")
_OTHER = ("query_id", "instruction", "excluded", "label", "score")
_PASSAGE_KEYS = {"docid", "_id", "id", "title", "text"}
_KNOWN = (*_QUERY, *_POSITIVE, *_NEGATIVE, *_THOUGHT, *_OTHER)


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """What files of pairs hold.

    Attributes:
        documents: the corpus: that of the caller, then the passages of the pairs, without
            repeated texts.
        records: one for each query and instruction, with at least one positive.
        notes: what was merged, dropped or ignored, as plural phrases -> how often.
    """

    documents: tuple[Document, ...]
    records: tuple[TrainingRecord, ...]
    notes: Mapping[str, int]


@dataclass(kw_only=True)
class _Query:
    """One query, collected from all its lines."""

    location: SourceLocation
    id: str
    text: str
    instruction: str | None
    positives: dict[str, int] = field(default_factory=dict)
    negatives: dict[str, None] = field(default_factory=dict)
    excluded: set[str] = field(default_factory=set)
    thoughts: dict[str, None] = field(default_factory=dict)


def read_pairs(paths: Sequence[Path], corpus: Iterable[Document] = ()) -> Pairs:
    """Reads `.jsonl`, `.json`, `.csv`, `.tsv` or `.parquet` files of pairs; see the module.

    A passage is a text or the id of a document in `corpus`. A passage with the text of a known
    document is that document; any other gets an id from its text. Lines with the same query and
    instruction become one record.

    Raises:
        DataError: with file and line: a line without query or positive, a value of another type, an
            unknown document id; or a file that is unreadable, empty or of another format.
    """
    passages = _Passages(corpus)
    queries: dict[tuple[str, str | None], _Query] = {}
    notes: Counter[str] = Counter()
    for path in paths:
        count = 0
        for row in read_rows(path):
            count += 1
            _add(row.location, _fields(row), passages, queries, notes)
        if not count:
            raise DataError(f"{path} has no pair")
        passages.check_file(path)
    records = tuple(_record(query, notes) for query in queries.values() if query.positives)
    notes["queries without a positive, which are dropped"] += len(queries) - len(records)
    if not records:
        raise DataError(f"{paths[0]} has no query with a positive")
    return Pairs(
        documents=tuple(passages.documents.values()),
        records=_with_distinct_ids(records),
        notes={note: number for note, number in notes.items() if number},
    )


def pairs_of_collection(collection: Collection) -> Pairs:
    """The queries of a collection with their relevant documents, and all its documents.

    Raises:
        DataError: no query has a relevant document.
    """
    records = records_from_collection(collection)
    if not records:
        raise DataError(f"{collection.name} has no query with a relevant document")
    return Pairs(documents=collection.documents, records=records, notes=collection.notes)


class _Passages:
    """The documents so far, found by id and by text."""

    def __init__(self, corpus: Iterable[Document]) -> None:
        self.documents = {document.id: document for document in corpus}
        self._ids = {text_hash(item.full_text): name for name, item in self.documents.items()}
        self._has_corpus = bool(self.documents)
        self._without_space = self._texts = 0

    def id_of(self, value: object, place: SourceLocation, *, is_id: bool = False) -> str:
        """The id of a passage: an id of the corpus, a text, or an object with `text`."""
        if isinstance(value, Mapping):
            return self._object(value, place)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            raise place.error(
                f"a passage must be a text, an id or an object, found {type(value).__name__}"
            )
        if value in self.documents:
            return value
        is_word = not any(map(str.isspace, value.strip()))
        if is_id or (self._has_corpus and is_word):
            where = "which the corpus does not have" if self._has_corpus else "without a corpus"
            raise place.error(
                f"it names the document {value!r}, {where}",
                hint="give the file with the documents: --corpus corpus.jsonl",
            )
        self._texts += 1
        self._without_space += is_word
        return self._text("", value, place)

    def check_file(self, path: Path) -> None:
        """Rejects a file whose passages are all single words, which must be ids."""
        if self._texts and self._texts == self._without_space:
            raise DataError(
                f"{path}: every passage is a single word, so they seem to be ids of documents",
                hint="give the file with the documents: --corpus corpus.jsonl",
            )

    def _object(self, value: Mapping[str, object], place: SourceLocation) -> str:
        title, text = value.get("title") or "", value.get("text") or ""
        if not isinstance(title, str) or not isinstance(text, str):
            raise place.error("title and text of a passage must be strings")
        name = next((value[key] for key in ("docid", "_id", "id") if key in value), None)
        if name is None:
            return self._text(title, text, place)
        name = str(name)
        if name in self.documents and not (title or text):
            return name
        document = self._document(name, title, text, place)
        known = self.documents.setdefault(name, document)
        if known != document:
            raise place.error(f"the document {name!r} occurred before with another text")
        self._ids.setdefault(text_hash(document.full_text), name)
        return name

    def _text(self, title: str, text: str, place: SourceLocation) -> str:
        if fault := text_error(title + text):
            raise place.error(f"a passage: {fault}")
        key = text_hash(f"{title}\n{text}" if title else text)
        if key not in self._ids:
            name = self._ids[key] = f"p{key[:16]}"
            self.documents[name] = self._document(name, title, text, place)
        return self._ids[key]

    def _document(self, name: str, title: str, text: str, place: SourceLocation) -> Document:
        try:
            return Document(id=name, title=title.strip(), text=text)
        except DataError as error:
            raise place.error(error.message) from error


def _fields(row: Row) -> dict[str, Any]:
    """The fields that are not null; a list has those of sentence-transformers."""
    values = row.fields
    if isinstance(values, dict):
        return {key: value for key, value in values.items() if value is not None}
    if len(values) < 2 or not all(isinstance(value, str) for value in values):
        raise row.location.error(
            "a list must be [query, positive, negative...], at least two strings"
        )
    return {"anchor": values[0], "positive": values[1], "negatives": values[2:]}


def _add(
    place: SourceLocation,
    fields: Mapping[str, Any],
    passages: _Passages,
    queries: dict[tuple[str, str | None], _Query],
    notes: Counter[str],
) -> None:
    """Adds the line to its query."""
    text = _text_under(place, fields, _first(place, fields, _QUERY, "query"))
    instruction = _text_under(place, fields, "instruction") if "instruction" in fields else None
    positive = _first(place, fields, _POSITIVE, "positive")
    name = _query_id(place, fields, text, instruction)
    key = (text_hash(text), instruction)
    query = queries.get(key)
    if query is None:
        query = queries[key] = _Query(location=place, id=name, text=text, instruction=instruction)
    else:
        notes["lines that repeat a query, which are merged"] += 1
    found = _graded(place, positive, fields[positive], passages)
    if _is_negative(place, fields):
        query.negatives |= dict.fromkeys(found)
    else:
        for document, grade in found.items():
            query.positives[document] = max(grade, query.positives.get(document, 0))
    for key_of_list in fields:
        if key_of_list in _NEGATIVE or _is_numbered_negative(key_of_list):
            values = _listed(fields[key_of_list])
            is_id = key_of_list in _ID_LISTS
            query.negatives |= {passages.id_of(value, place, is_id=is_id): None for value in values}
        elif key_of_list in _THOUGHT:
            query.thoughts |= dict.fromkeys(_texts(place, key_of_list, fields[key_of_list]))
        elif key_of_list == "excluded":
            values = _listed(fields[key_of_list])
            query.excluded |= {passages.id_of(value, place, is_id=True) for value in values}
        elif key_of_list not in _KNOWN:
            notes[f"values of the unused column {key_of_list!r}"] += 1


def _first(
    place: SourceLocation, fields: Mapping[str, object], names: Sequence[str], kind: str
) -> str:
    """The first of the names that the line has."""
    for name in names:
        if name in fields:
            return name
    found = ", ".join(sorted(fields)) or "none"
    hints = [suggestion(name, names) for name in fields]
    close = next((hint for hint in hints if hint.startswith("did you mean")), None)
    raise place.error(
        f"the {kind} is missing; found the keys {found}",
        hint=close or f"name it {names[0]!r} (or {', '.join(names[1:4])})",
    )


def _query_id(
    place: SourceLocation, fields: Mapping[str, object], text: str, instruction: str | None
) -> str:
    if "query_id" not in fields:
        return f"q{text_hash(text if instruction is None else f'{instruction} {text}')[:16]}"
    name = str(fields["query_id"])
    if fault := id_error(name):
        raise place.error(f'field "query_id": {fault}')
    return name


def _is_negative(place: SourceLocation, fields: Mapping[str, object]) -> bool:
    """Whether the label of a sentence pair says that the passage does not answer the query."""
    name = next((name for name in ("label", "score") if name in fields), None)
    if name is None:
        return False
    try:
        value = float(str(fields[name]))
    except ValueError:
        value = -1.0
    if value not in (0, 1):
        raise place.error(
            f"the {name} of a pair must be 1 (relevant) or 0, found {fields[name]!r}",
            hint=f"keep the pairs that are relevant, and remove the column {name!r}",
        )
    return value == 0


def _is_numbered_negative(name: str) -> bool:
    """`negative_1`, `negative_2`, ... of sentence-transformers."""
    return name.startswith("negative_") and name.removeprefix("negative_").isdigit()


def _graded(place: SourceLocation, name: str, value: object, passages: _Passages) -> dict[str, int]:
    """Document id -> grade of the positives."""
    if not isinstance(value, Mapping) or _PASSAGE_KEYS & value.keys():
        values = _listed(value)
        is_id = name in _ID_LISTS
        return {passages.id_of(item, place, is_id=is_id): 1 for item in values}
    grades: dict[str, int] = {}
    for document, grade in value.items():
        if not isinstance(grade, int | float) or isinstance(grade, bool) or grade % 1:
            raise place.error(f"the grade of {document!r} must be an integer")
        if grade > 0:
            grades[passages.id_of(document, place, is_id=True)] = int(grade)
    return grades


def _listed(value: object) -> list[object]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _text_under(place: SourceLocation, fields: Mapping[str, object], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str):
        raise place.error(
            f'field "{name}" must be a string, found {type(value).__name__} {value!r}'
        )
    if fault := text_error(value):
        raise place.error(f'field "{name}": {fault}')
    return value


def _texts(place: SourceLocation, name: str, value: object) -> list[str]:
    texts = [text for text in _listed(value) if text]
    if not all(isinstance(text, str) for text in texts):
        raise place.error(f'field "{name}" must be a string or a list of strings')
    return [str(text) for text in texts if str(text).strip()]


def _record(query: _Query, notes: Counter[str]) -> TrainingRecord:
    negatives = [
        name
        for name in query.negatives
        if name not in query.positives and name not in query.excluded
    ]
    contradictory = len([name for name in query.negatives if name in query.positives])
    notes["negatives that are positives of the same query, which are dropped"] += contradictory
    try:
        return TrainingRecord(
            query_id=query.id,
            query=query.text,
            positives=query.positives,
            negatives=tuple(negatives),
            excluded=frozenset(query.excluded - query.positives.keys()),
            thoughts=tuple(query.thoughts),
            instruction=query.instruction,
        )
    except DataError as error:
        raise query.location.error(error.message, hint=error.hint) from error


def _with_distinct_ids(records: tuple[TrainingRecord, ...]) -> tuple[TrainingRecord, ...]:
    """The records; the second query of one id is an error."""
    seen: dict[str, str] = {}
    for record in records:
        if (known := seen.setdefault(record.query_id, record.query)) != record.query:
            raise DataError(
                f"the query id {record.query_id!r} belongs to two queries: {known[:60]!r} and "
                f"{record.query[:60]!r}",
                hint="give each query an id of its own, or leave the column query_id out",
            )
    return records
