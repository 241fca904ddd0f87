"""Collections read from folders and files, in the formats of `t1_jax.retrieval.layouts`.

`collection.json` (name, metadata, hashes) and `excluded.jsonl` (`{"_id": query, "excluded":
[documents]}`) are additions of this package, optional in every format.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeVar

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import Collection, Document, Query, SourceLocation
from t1_jax.retrieval.jsonl import Record
from t1_jax.retrieval.layouts import (
    Entry,
    Exclusion,
    Layout,
    RecordFile,
    Split,
    document_entry,
    document_file,
    query_entry,
    query_file,
    recognize_layout,
)
from t1_jax.retrieval.save import check_hashes, read_manifest
from t1_jax.retrieval.trec import trec_names
from t1_jax.retrieval.validation import (
    DUPLICATE_DOCUMENT,
    DUPLICATE_QREL,
    DUPLICATE_QUERY,
    EMPTY_DOCUMENT,
    EMPTY_QUERY,
    EXCLUDED_UNKNOWN_DOCUMENT,
    EXCLUSION_FOR_UNKNOWN_QUERY,
    UNKNOWN_DOCUMENT,
    UNKNOWN_QUERY,
    ValidationReport,
)

_Item = TypeVar("_Item", Document, Query)
_NOTHING_EXCLUDED = ("N/A",)
"""BRIGHT's notation for a query that excludes no document."""


def load_collection(
    folder: Path, split: str = "test", *, lenient: bool = False, needs_documents: bool = True
) -> Collection:
    """Reads one split: every document, and the queries that have qrels in the split.

    The format is recognized by the names of the files: BEIR, TREC, Tevatron or FlagEmbedding.

    Variations of published collections that change no score are accepted: gzipped files (`.gz`),
    integer ids, a relevance label written `1.0`, a blank title, a blank text beside a title,
    `["N/A"]` as an empty exclusion list (BRIGHT), and duplicate lines (`Collection.notes` counts
    them). A second line with the same id and different content is always an error.

    Args:
        folder: folder of the collection.
        split: name of the split, as in `qrels/<split>.tsv`.
        lenient: whether to accept malformed records, documents and queries without text, and qrels
            and exclusions with unknown ids. Qrels of unknown documents go to
            `Collection.absent_qrels`, so that scores equal those of trec_eval; everything else is
            dropped. `Collection.notes` counts each kind of problem.
        needs_documents: whether TREC topics and qrels without documents are an error. If not, the
            collection has no documents, and all its qrels are in `absent_qrels`: enough to score a
            run.

    Raises:
        DataError: a file is missing or malformed, an id is duplicated or unknown, or the content
            differs from the hashes in `collection.json`. The message names file and line.
            Problems that `lenient` accepts are counted over all files first.
    """
    folder = Path(folder)
    layout = recognize_layout(folder)
    files = layout.split(split)
    if needs_documents:
        _check_has_documents(layout)
    report = ValidationReport()
    documents = _read_documents(layout.corpus, report, lenient=lenient)
    queries = _read_queries(files.queries, report, lenient=lenient)
    ids = _Ids(layout, documents, queries)
    qrels = _read_qrels(files, ids, report, lenient=lenient)
    excluded = _read_excluded(layout.excluded, ids, report, lenient=lenient)
    present = {
        query_id: {name: label for name, label in labels.items() if name in documents}
        for query_id, labels in qrels.items()
    }
    absent = {
        query_id: {name: labels[name] for name in labels if name not in documents}
        for query_id, labels in qrels.items()
    }
    report.raise_unless(lenient)
    if not qrels:
        raise DataError(f"{folder}: the split {split} has no qrels")
    manifest = read_manifest(folder)
    collection = Collection(
        name=manifest.name if manifest else folder.resolve().name,
        documents=tuple(documents.values()),
        queries=tuple(query for query in queries.values() if query.id in qrels),
        qrels={query_id: labels for query_id, labels in present.items() if labels},
        excluded={query_id: excluded[query_id] for query_id in qrels if query_id in excluded},
        metadata=manifest.metadata if manifest else {},
        absent_qrels={query_id: labels for query_id, labels in absent.items() if labels},
        notes=report.notes(),
    )
    if manifest:
        check_hashes(folder, split, collection, manifest)
    return collection


def load_documents(path: Path, *, lenient: bool = False) -> Collection:
    """A collection with documents only, from the folder of a collection or from a file.

    The file has one of the forms of `t1_jax.retrieval.layouts.document_file`, gzipped or not; `-`
    is JSONL on standard input. With `lenient`, malformed records and documents without text are
    dropped, see `load_collection`.

    Raises:
        DataError: the file is missing or malformed, or an id is duplicated; names file and line.
    """
    path, report = Path(path), ValidationReport()
    documents = _read_documents(corpus_files(path), report, lenient=lenient)
    report.raise_unless(lenient)
    manifest = read_manifest(path) if path.is_dir() else None
    return Collection(
        name=manifest.name if manifest else path.resolve().name.split(".")[0],
        documents=tuple(documents.values()),
        queries=(),
        qrels={},
        metadata=manifest.metadata if manifest else {},
        notes=report.notes(),
    )


def load_queries(path: Path, *, lenient: bool = False) -> Collection:
    """A collection with queries only, from a file; see `t1_jax.retrieval.layouts.query_file`.

    Raises:
        DataError: the file is missing or malformed, or an id is duplicated; names file and line.
    """
    path, report = Path(path), ValidationReport()
    queries = _read_queries(query_file(path), report, lenient=lenient)
    report.raise_unless(lenient)
    return Collection(
        name=path.resolve().name.split(".")[0],
        documents=(),
        queries=tuple(queries.values()),
        qrels={},
        notes=report.notes(),
    )


def splits_of(folder: Path) -> tuple[str, ...]:
    """Names of the splits in a folder, sorted.

    Raises:
        DataError: the folder has no qrels in a known format.
    """
    layout = recognize_layout(folder)
    if not layout.splits:
        raise DataError(
            f"{folder} has documents only, no qrels",
            hint="add qrels, see docs/collections.md",
        )
    return tuple(layout.splits)


def corpus_files(path: Path) -> tuple[RecordFile[Entry], ...]:
    """The files of documents of a collection's folder; a path of another kind is one itself.

    Raises:
        DataError: the folder is not a collection, or has no documents.
    """
    if not path.is_dir():
        return (document_file(path),)
    layout = recognize_layout(path)
    _check_has_documents(layout)
    return layout.corpus


def to_document(entry: Entry, report: ValidationReport) -> Document | None:
    """The document of an entry; one without text is reported, and None."""
    if not entry.text and not entry.title:
        report.add(EMPTY_DOCUMENT, entry.location, f"document {entry.id!r}")
        return None
    location = SourceLocation(path=Path(entry.location.path.name), line=entry.location.line)
    return Document(id=entry.id, title=entry.title, text=entry.text, location=location)


def to_query(entry: Entry, report: ValidationReport) -> Query | None:
    """The query of an entry; one without text is reported, and None."""
    if not entry.text:
        report.add(EMPTY_QUERY, entry.location, f"query {entry.id!r}")
        return None
    return Query(id=entry.id, text=entry.text)


def parse_document(record: Record, report: ValidationReport) -> Document | None:
    """The document of a JSON object; see `document_file` for its keys, and `to_document`.

    Raises:
        DataError: a field is missing or malformed; names file and line.
    """
    return to_document(document_entry(record), report)


def parse_query(record: Record, report: ValidationReport) -> Query | None:
    """The query of a JSON object; see `query_file` for its keys, and `to_query`.

    Raises:
        DataError: a field is missing or malformed; names file and line.
    """
    return to_query(query_entry(record), report)


def _check_has_documents(layout: Layout) -> None:
    if not layout.corpus:
        raise DataError(
            f"{layout.folder} has topics and qrels, and no documents",
            hint="add corpus.jsonl; without documents a run can be scored, see `t1 evaluate --run`",
        )


def _read_documents(
    files: Iterable[RecordFile[Entry]], report: ValidationReport, *, lenient: bool
) -> dict[str, Document]:
    documents: dict[str, Document] = {}
    for file in files:
        entries = file.read(report, lenient=lenient)
        items = ((entry.location, to_document(entry, report)) for entry in entries)
        add_distinct(items, documents, DUPLICATE_DOCUMENT, report)
        if not documents:
            raise DataError(f"{file.path} has no entry with text")
    return documents


def _read_queries(
    file: RecordFile[Entry], report: ValidationReport, *, lenient: bool
) -> dict[str, Query]:
    queries: dict[str, Query] = {}
    entries = file.read(report, lenient=lenient)
    items = ((entry.location, to_query(entry, report)) for entry in entries)
    add_distinct(items, queries, DUPLICATE_QUERY, report)
    if not queries:
        raise DataError(f"{file.path} has no entry with text")
    return queries


def add_distinct(
    items: Iterable[tuple[SourceLocation, _Item | None]],
    known: dict[str, _Item],
    duplicate: str,
    report: ValidationReport,
) -> None:
    """Adds items to those that are known, by id; a repeated one is kept once and reported.

    Raises:
        DataError: an id is repeated with other content; names file and line.
    """
    for location, item in items:
        if item is None:
            continue
        first = known.setdefault(item.id, item)
        if first is item:
            continue
        if first != item:
            raise location.error(f"id {item.id!r} occurred before with different content")
        report.ignore(duplicate)


class _Ids:
    """The ids of a collection, as its qrels and exclusions write them."""

    def __init__(
        self, layout: Layout, documents: Mapping[str, Document], queries: Mapping[str, Query]
    ) -> None:
        self.documents, self.queries = documents, queries
        self.has_documents = bool(documents)
        with_spaces = [name for name in documents if any(map(str.isspace, name))]
        is_mapped = layout.writes_underscores and with_spaces
        self._originals = trec_names(documents) if is_mapped else {}

    def document_id(self, written: str) -> str:
        """The id of a document; an unknown one as it is written."""
        return written if written in self.documents else self._originals.get(written, written)


def _read_qrels(
    files: Split, ids: _Ids, report: ValidationReport, *, lenient: bool
) -> dict[str, dict[str, int]]:
    """Query id -> document id -> relevance label, for known queries; documents may be unknown."""
    qrels: dict[str, dict[str, int]] = {}
    for label in (label for row in files.qrels.read(report, lenient=lenient) for label in row):
        if label.query_id not in ids.queries:
            report.add(UNKNOWN_QUERY, label.location, f"unknown query {label.query_id!r}")
            continue
        name = ids.document_id(label.document_id)
        labels = qrels.setdefault(label.query_id, {})
        if name in labels:
            if labels[name] != label.label:
                raise label.location.error(
                    f"query {label.query_id!r} has two labels for document {name!r}"
                )
            report.ignore(DUPLICATE_QREL)
            continue
        if ids.has_documents and name not in ids.documents:
            report.add(UNKNOWN_DOCUMENT, label.location, f"unknown document {name!r}")
        labels[name] = label.label
    return qrels


def _read_excluded(
    file: RecordFile[Exclusion], ids: _Ids, report: ValidationReport, *, lenient: bool
) -> dict[str, frozenset[str]]:
    if not file.path.is_file():
        return {}
    excluded: dict[str, frozenset[str]] = {}
    for row in file.read(report, lenient=lenient):
        if row.query_id not in ids.queries:
            problem = f"unknown query {row.query_id!r}"
            report.add(EXCLUSION_FOR_UNKNOWN_QUERY, row.location, problem)
            continue
        if row.query_id in excluded:
            raise row.location.error(f"query {row.query_id!r} occurred before")
        names = row.document_ids
        if names == _NOTHING_EXCLUDED and names[0] not in ids.documents:
            names = ()
        for unknown in (name for name in names if name not in ids.documents):
            report.add(EXCLUDED_UNKNOWN_DOCUMENT, row.location, f"unknown document {unknown!r}")
        excluded[row.query_id] = frozenset(name for name in names if name in ids.documents)
    return {query_id: names for query_id, names in excluded.items() if names}
