"""Collections in the BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, collection.json.

The first three are BEIR's. `collection.json` (name, metadata, hashes) and `excluded.jsonl`
(`{"_id": query, "excluded": [documents]}`) are additions of this package, optional when reading.
"""

import csv
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypeVar

from t1_jax.errors import DataError
from t1_jax.files import atomic_folder
from t1_jax.retrieval.collection import Collection, Document, Query, SourceLocation
from t1_jax.retrieval.jsonl import (
    Record,
    parse_relevance_label,
    read_lines,
    read_records,
)
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
_QRELS_HEADER = ["query-id", "corpus-id", "score"]
_NOTHING_EXCLUDED = ["N/A"]
"""BRIGHT's notation for a query that excludes no document."""

_SPLIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def load_collection(folder: Path, split: str = "test", *, lenient: bool = False) -> Collection:
    """Reads one split: every document, and the queries that have qrels in the split.

    Variations of published collections that change no score are accepted: gzipped files (`.gz`),
    integer ids, a relevance label written `1.0`, a blank title, a blank text beside a title,
    `["N/A"]` as an empty exclusion list (BRIGHT), and duplicate lines (`Collection.notes` counts
    them). A second line with the same id and different content is always an error.

    Args:
        folder: folder with `corpus.jsonl`.
        split: name of the split, as in `qrels/<split>.tsv`.
        lenient: whether to accept documents and queries without text, and qrels and exclusions
            with unknown ids. Qrels of unknown documents go to `Collection.absent_qrels`, so that
            scores equal those of trec_eval; everything else is dropped. `Collection.notes` counts
            each kind of problem.

    Raises:
        DataError: a file is missing or malformed, an id is duplicated or unknown, or the content
            differs from the hashes in `collection.json`. The message names file and line.
            Problems that `lenient` accepts are counted over all files first.
    """
    folder = Path(folder)
    report = ValidationReport()
    documents = _read_items(_path(folder, "corpus.jsonl"), parse_document, report)
    queries = _read_items(_path(folder, "queries.jsonl"), parse_query, report)
    qrels = _read_qrels(_qrels_path(folder, split), queries, documents, report)
    excluded = _read_excluded(_path(folder, "excluded.jsonl"), queries, documents, report)
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
    manifest = _read_manifest(folder / "collection.json")
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
        _check_hashes(folder, split, collection, manifest)
    return collection


def load_documents(path: Path, *, lenient: bool = False) -> Collection:
    """A collection with documents only, from a folder with `corpus.jsonl` or from a JSONL file.

    The file may be gzipped (`.gz`); `-` is standard input. With `lenient`, documents without text
    are dropped, see `load_collection`.

    Raises:
        DataError: the file is missing or malformed, or an id is duplicated; names file and line.
    """
    path, report = Path(path), ValidationReport()
    documents = _read_items(corpus_path(path), parse_document, report)
    report.raise_unless(lenient)
    manifest = _read_manifest(path / "collection.json") if path.is_dir() else None
    return Collection(
        name=manifest.name if manifest else path.resolve().name.split(".")[0],
        documents=tuple(documents.values()),
        queries=(),
        qrels={},
        metadata=manifest.metadata if manifest else {},
        notes=report.notes(),
    )


def load_queries(path: Path, *, lenient: bool = False) -> Collection:
    """A collection with queries only, from a JSONL file; see `load_documents`.

    Raises:
        DataError: the file is missing or malformed, or an id is duplicated; names file and line.
    """
    path, report = Path(path), ValidationReport()
    queries = _read_items(path, parse_query, report)
    report.raise_unless(lenient)
    return Collection(
        name=path.resolve().name.split(".")[0],
        documents=(),
        queries=tuple(queries.values()),
        qrels={},
        notes=report.notes(),
    )


def save_collection(
    splits: Mapping[str, Collection], folder: Path, *, overwrite: bool = False
) -> None:
    """Writes collections that share their documents as the splits of one folder, atomically.

    Raises:
        DataError: there is no split, a split's name is not a plain file name, the splits have
            different documents, or a query has different texts in two splits.
        T1Error: the folder exists (without `overwrite`), or the write failed.
    """
    first = _checked_splits(splits)
    queries = {query.id: query for collection in splits.values() for query in collection.queries}
    excluded = {
        key: sorted(ids)
        for collection in splits.values()
        for key, ids in collection.excluded.items()
    }
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        _write_jsonl(
            scratch / "corpus.jsonl",
            ({"_id": item.id, "title": item.title, "text": item.text} for item in first.documents),
        )
        _write_jsonl(
            scratch / "queries.jsonl",
            ({"_id": item.id, "text": item.text} for item in queries.values()),
        )
        if excluded:
            _write_jsonl(
                scratch / "excluded.jsonl",
                ({"_id": key, "excluded": ids} for key, ids in excluded.items()),
            )
        (scratch / "qrels").mkdir()
        for split, collection in splits.items():
            _write_qrels(scratch / "qrels" / f"{split}.tsv", collection)
        manifest = _Manifest(
            name=first.name,
            metadata=dict(first.metadata),
            data_hash=first.data_hash,
            qrels_hashes={split: collection.qrels_hash for split, collection in splits.items()},
        )
        text = json.dumps(asdict(manifest), indent=2, ensure_ascii=False) + "\n"
        (scratch / "collection.json").write_text(text, encoding="utf-8")


def splits_of(folder: Path) -> tuple[str, ...]:
    """Names of the splits in a folder, sorted.

    Raises:
        DataError: the folder has no `qrels/<split>.tsv`.
    """
    files = [path.name.removesuffix(".gz") for path in (Path(folder) / "qrels").glob("*.tsv*")]
    names = sorted({name.removesuffix(".tsv") for name in files if name.endswith(".tsv")})
    if not names:
        raise DataError(f"{folder} is not a collection in the BEIR layout: no qrels/<split>.tsv")
    return tuple(names)


def _path(folder: Path, name: str) -> Path:
    """Path of the file, gzipped or not; the plain path if neither exists."""
    plain, gzipped = folder / name, folder / f"{name}.gz"
    if plain.exists() and gzipped.exists():
        raise DataError(f"{folder} has both {plain.name} and {gzipped.name}", hint="delete one")
    return gzipped if gzipped.exists() else plain


def _id_of(record: Record) -> str:
    """The id, from BEIR's key `_id` or from `id`."""
    return record.id("id" if "_id" not in record.fields and "id" in record.fields else "_id")


def corpus_path(path: Path) -> Path:
    """The corpus of a folder in the BEIR layout, gzipped or not; a file is returned as it is."""
    return _path(path, "corpus.jsonl") if path.is_dir() else path


def parse_document(record: Record, report: ValidationReport) -> Document | None:
    """A document of `corpus.jsonl`; one without text is reported, and None.

    Raises:
        DataError: a field is missing or malformed; names file and line.
    """
    identifier, title = _id_of(record), record.optional_text("title")
    text = record.nullable_text("text")
    if not text and not title:
        report.add(EMPTY_DOCUMENT, record.location, f"document {identifier!r}")
        return None
    location = SourceLocation(path=Path(record.location.path.name), line=record.location.line)
    return Document(id=identifier, title=title, text=text, location=location)


def parse_query(record: Record, report: ValidationReport) -> Query | None:
    """The query of a record, or None if it has no text, which the report counts."""
    identifier, text = _id_of(record), record.nullable_text("text")
    if not text:
        report.add(EMPTY_QUERY, record.location, f"query {identifier!r}")
        return None
    return Query(id=identifier, text=text)


def _read_items(
    path: Path, parse: Callable[[Record, ValidationReport], _Item | None], report: ValidationReport
) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for record in read_records(path):
        item = parse(record, report)
        if item is None:
            continue
        first = items.setdefault(item.id, item)
        if first is item:
            continue
        if first != item:
            raise record.location.error(f"id {item.id!r} occurred before with different content")
        report.ignore(DUPLICATE_DOCUMENT if isinstance(item, Document) else DUPLICATE_QUERY)
    if not items:
        raise DataError(f"{path} has no entry with text")
    return items


def _qrels_path(folder: Path, split: str) -> Path:
    path = _path(folder, f"qrels/{split}.tsv") if _SPLIT.fullmatch(split) else None
    if path is None or not path.is_file():
        raise DataError(
            f"{folder} has no split {split!r}", hint=f"choose one of {', '.join(splits_of(folder))}"
        )
    return path


def _read_qrels(
    path: Path,
    queries: Mapping[str, Query],
    documents: Mapping[str, Document],
    report: ValidationReport,
) -> dict[str, dict[str, int]]:
    """Query id -> document id -> relevance label, for known queries; documents may be unknown."""
    qrels: dict[str, dict[str, int]] = {}
    for location, line in read_lines(path):
        row = _split_row(location, line)
        if location.line == 1:
            if row != _QRELS_HEADER:
                raise location.error(
                    f"expected the header {' '.join(_QRELS_HEADER)!r}, found {' '.join(row)!r}",
                    hint="add the header, separated by tabs: readers of BEIR skip the first line",
                )
            continue
        query_id, document_id, label = row[0], row[1], parse_relevance_label(location, row[2])
        if query_id not in queries:
            report.add(UNKNOWN_QUERY, location, f"unknown query {query_id!r}")
            continue
        labels = qrels.setdefault(query_id, {})
        if document_id in labels:
            if labels[document_id] != label:
                raise location.error(
                    f"query {query_id!r} has two labels for document {document_id!r}"
                )
            report.ignore(DUPLICATE_QREL)
            continue
        if document_id not in documents:
            report.add(UNKNOWN_DOCUMENT, location, f"unknown document {document_id!r}")
        labels[document_id] = label
    return qrels


def _split_row(location: SourceLocation, line: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter="\t", strict=True), [])
    except csv.Error as error:
        raise location.error(f"malformed tab-separated line: {error}") from error
    if len(row) != len(_QRELS_HEADER):
        raise location.error(f"expected 3 fields separated by tabs, found {len(row)}")
    return row


def _read_excluded(
    path: Path,
    queries: Mapping[str, Query],
    documents: Mapping[str, Document],
    report: ValidationReport,
) -> dict[str, frozenset[str]]:
    if not path.is_file():
        return {}
    excluded: dict[str, frozenset[str]] = {}
    for record in read_records(path):
        query_id, ids = record.id("_id"), record.ids("excluded")
        if query_id not in queries:
            report.add(EXCLUSION_FOR_UNKNOWN_QUERY, record.location, f"unknown query {query_id!r}")
            continue
        if query_id in excluded:
            raise record.location.error(f"query {query_id!r} occurred before")
        if ids == _NOTHING_EXCLUDED and ids[0] not in documents:
            ids = []
        for unknown in (document_id for document_id in ids if document_id not in documents):
            report.add(EXCLUDED_UNKNOWN_DOCUMENT, record.location, f"unknown document {unknown!r}")
        excluded[query_id] = frozenset(name for name in ids if name in documents)
    return {query_id: ids for query_id, ids in excluded.items() if ids}


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """The content of `collection.json`."""

    name: str
    metadata: Mapping[str, str]
    data_hash: str
    qrels_hashes: Mapping[str, str]


def _read_manifest(path: Path) -> _Manifest | None:
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_bytes())
        if "judgement_hashes" in fields:  # the key in collections built before qrels had this name
            fields["qrels_hashes"] = fields.pop("judgement_hashes")
        manifest = _Manifest(**fields)
        strings = [manifest.name, manifest.data_hash]
        for table in (manifest.metadata, manifest.qrels_hashes):
            strings += [*table.keys(), *table.values()]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is malformed: {error}", hint="build the collection again"
        ) from error
    if not all(isinstance(value, str) for value in strings):
        raise DataError(f"{path} is malformed: every value must be a string")
    return manifest


def _check_hashes(folder: Path, split: str, collection: Collection, manifest: _Manifest) -> None:
    pairs = [("corpus.jsonl", manifest.data_hash, collection.data_hash)]
    if split in manifest.qrels_hashes:
        pairs.append((f"split {split}", manifest.qrels_hashes[split], collection.qrels_hash))
    for what, recorded, actual in pairs:
        if recorded != actual:
            raise DataError(
                f"{folder}: {what} changed since it was built: collection.json has the hash "
                f"{recorded}, the content has {actual}",
                hint="build the collection again, or delete collection.json to use it as it is",
            )


def _checked_splits(splits: Mapping[str, Collection]) -> Collection:
    if not splits:
        raise DataError("a collection needs at least one split")
    first = next(iter(splits.values()))
    texts: dict[str, str] = {}
    for split, collection in splits.items():
        if not _SPLIT.fullmatch(split):
            raise DataError(f"{split!r} cannot name a split: letters, digits, '.', '_', '-' only")
        if collection.data_hash != first.data_hash or collection.metadata != first.metadata:
            raise DataError(f"{collection.name}: split {split!r} has other documents or metadata")
        for query in collection.queries:
            if texts.setdefault(query.id, query.text) != query.text:
                raise DataError(f"{collection.name}: query {query.id!r} differs between splits")
    return first


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_qrels(path: Path, collection: Collection) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_QRELS_HEADER)
        for query_id, labels in collection.all_qrels.items():
            writer.writerows(
                (query_id, document_id, label) for document_id, label in labels.items()
            )
