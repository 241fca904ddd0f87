"""Collections in the BEIR layout: corpus.jsonl, queries.jsonl, qrels/<split>.tsv, collection.json.

The first three are BEIR's own. `collection.json` (name, metadata, hashes) and `excluded.jsonl`
(`{"_id": query, "excluded": [documents]}`) are ours, and optional when reading.
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
from t1_jax.retrieval.collection import Collection, Document, Query
from t1_jax.retrieval.flaws import (
    ABSENT_DOCUMENT,
    ABSENT_QUERY,
    EMPTY_DOCUMENT,
    EMPTY_QUERY,
    EXCLUDED_ABSENT_DOCUMENT,
    EXCLUSION_OF_ABSENT_QUERY,
    REPEATED_DOCUMENT,
    REPEATED_JUDGMENT,
    REPEATED_QUERY,
    Flaws,
)
from t1_jax.retrieval.jsonl import Record, SourceLocation, integer_grade, read_lines, read_records

_Item = TypeVar("_Item", Document, Query)
_QRELS_HEADER = ["query-id", "corpus-id", "score"]
_NOTHING_EXCLUDED = ["N/A"]
"""How BRIGHT writes that a query excludes no document."""

_SPLIT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def load_collection(folder: Path, split: str = "test", *, lenient: bool = False) -> Collection:
    """Reads one split: every document, and the queries that the split judges.

    Sets are read as published where that changes no score: files may be packed (`.gz`), an id may
    be an integer, a grade may be written `1.0`, a title may be blank, the text too if there is a
    title, `["N/A"]` excludes nothing (as in BRIGHT), and equal lines may repeat (as in BEIR's
    reader; `Collection.notes` counts them). A second line with the same id and other content is
    always an error.

    Args:
        folder: where `corpus.jsonl` lies.
        split: names `qrels/<split>.tsv`.
        lenient: whether to accept documents and queries without any text and judgments and
            exclusions that name what is not there. Documents and queries without text, and
            judgments of absent queries, are dropped, as are such exclusions; judgments of absent
            documents go to `Collection.absent_qrels`, so that scores are those of trec_eval.
            `Collection.notes` counts each kind.

    Raises:
        DataError: with file and line, whatever is malformed, missing, doubled or unknown; or the
            content is not what `collection.json` says was written. What `lenient` accepts is
            counted over all files first.
    """
    folder = Path(folder)
    flaws = Flaws()
    documents = _read_items(_path(folder, "corpus.jsonl"), _document, flaws)
    queries = _read_items(_path(folder, "queries.jsonl"), _query, flaws)
    qrels = _read_qrels(_qrels_path(folder, split), queries, documents, flaws)
    excluded = _read_excluded(_path(folder, "excluded.jsonl"), queries, documents, flaws)
    present = {
        query_id: {name: grade for name, grade in grades.items() if name in documents}
        for query_id, grades in qrels.items()
    }
    absent = {
        query_id: {name: grades[name] for name in grades if name not in documents}
        for query_id, grades in qrels.items()
    }
    flaws.raise_unless(lenient)
    if not qrels:
        raise DataError(f"{folder}: the split {split} has no judgment of a query")
    manifest = _read_manifest(folder / "collection.json")
    collection = Collection(
        name=manifest.name if manifest else folder.resolve().name,
        documents=tuple(documents.values()),
        queries=tuple(query for query in queries.values() if query.id in qrels),
        qrels={query_id: grades for query_id, grades in present.items() if grades},
        excluded={query_id: excluded[query_id] for query_id in qrels if query_id in excluded},
        metadata=manifest.metadata if manifest else {},
        absent_qrels={query_id: grades for query_id, grades in absent.items() if grades},
        notes=flaws.notes(),
    )
    if manifest:
        _check_hashes(folder, split, collection, manifest)
    return collection


def load_documents(path: Path, *, lenient: bool = False) -> Collection:
    """The documents alone of a folder with `corpus.jsonl`, or of a JSONL file; no qrels are needed.

    Args:
        path: the folder or the file, which may be packed (`.gz`); `-` is standard input.
        lenient: whether to drop documents without any text, see `load_collection`.

    Raises:
        DataError: with file and line, whatever is malformed, missing or doubled.
    """
    path, flaws = Path(path), Flaws()
    file = _path(path, "corpus.jsonl") if path.is_dir() else path
    documents = _read_items(file, _document, flaws)
    flaws.raise_unless(lenient)
    manifest = _read_manifest(path / "collection.json") if path.is_dir() else None
    return Collection(
        name=manifest.name if manifest else path.resolve().name.split(".")[0],
        documents=tuple(documents.values()),
        queries=(),
        qrels={},
        metadata=manifest.metadata if manifest else {},
        notes=flaws.notes(),
    )


def load_queries(path: Path, *, lenient: bool = False) -> Collection:
    """The queries of a JSONL file, as a collection without documents; see `load_documents`.

    Raises:
        DataError: with file and line, whatever is malformed, missing or doubled.
    """
    path, flaws = Path(path), Flaws()
    queries = _read_items(path, _query, flaws)
    flaws.raise_unless(lenient)
    return Collection(
        name=path.resolve().name.split(".")[0],
        documents=(),
        queries=tuple(queries.values()),
        qrels={},
        notes=flaws.notes(),
    )


def save_collection(
    splits: Mapping[str, Collection], folder: Path, *, overwrite: bool = False
) -> None:
    """Writes collections that share their documents as the splits of one folder, all or nothing.

    Raises:
        DataError: no split, a split's name that is not a plain file name, splits of different
            documents, or a query that two splits word differently.
        T1Error: the folder exists (without `overwrite`), or the disk refuses.
    """
    first = _checked_splits(splits)
    queries = {query.id: query for part in splits.values() for query in part.queries}
    excluded = {key: sorted(ids) for part in splits.values() for key, ids in part.excluded.items()}
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
        for split, part in splits.items():
            _write_qrels(scratch / "qrels" / f"{split}.tsv", part)
        manifest = _Manifest(
            name=first.name,
            metadata=dict(first.metadata),
            data_hash=first.data_hash,
            qrels_hashes={split: part.qrels_hash for split, part in splits.items()},
        )
        (scratch / "collection.json").write_text(manifest.text(), encoding="utf-8")


def splits_of(folder: Path) -> tuple[str, ...]:
    """Names of the splits that a folder holds, sorted.

    Raises:
        DataError: the folder has no `qrels/<split>.tsv`.
    """
    files = [path.name.removesuffix(".gz") for path in (Path(folder) / "qrels").glob("*.tsv*")]
    names = sorted({name.removesuffix(".tsv") for name in files if name.endswith(".tsv")})
    if not names:
        raise DataError(f"{folder} is not a collection in the BEIR layout: no qrels/<split>.tsv")
    return tuple(names)


def _path(folder: Path, name: str) -> Path:
    """The file of that name, plain or packed; the plain name where there is neither."""
    plain, packed = folder / name, folder / f"{name}.gz"
    if plain.exists() and packed.exists():
        raise DataError(f"{folder} has both {plain.name} and {packed.name}", hint="delete one")
    return packed if packed.exists() else plain


def _identifier(record: Record) -> str:
    """The id under BEIR's name for it, or under the plainer one."""
    return record.id("id" if "_id" not in record.fields and "id" in record.fields else "_id")


def _document(record: Record, flaws: Flaws) -> Document | None:
    identifier, title = _identifier(record), record.optional_text("title")
    text = record.nullable_text("text")
    if not text and not title:
        flaws.fault(EMPTY_DOCUMENT, record.place, f"document {identifier!r}")
        return None
    return Document(id=identifier, title=title, text=text)


def _query(record: Record, flaws: Flaws) -> Query | None:
    identifier, text = _identifier(record), record.nullable_text("text")
    if not text:
        flaws.fault(EMPTY_QUERY, record.place, f"query {identifier!r}")
        return None
    return Query(id=identifier, text=text)


def _read_items(
    path: Path, parse: Callable[[Record, Flaws], _Item | None], flaws: Flaws
) -> dict[str, _Item]:
    items: dict[str, _Item] = {}
    for record in read_records(path):
        item = parse(record, flaws)
        if item is None:
            continue
        known = items.setdefault(item.id, item)
        if known is item:
            continue
        if known != item:
            raise record.place.fault(f"id {item.id!r} came before with other content")
        flaws.accept(REPEATED_DOCUMENT if isinstance(item, Document) else REPEATED_QUERY)
    if not items:
        raise DataError(f"{path} has nothing with a text")
    return items


def _qrels_path(folder: Path, split: str) -> Path:
    path = _path(folder, f"qrels/{split}.tsv") if _SPLIT.fullmatch(split) else None
    if path is None or not path.is_file():
        raise DataError(
            f"{folder} has no split {split!r}", hint=f"choose one of {', '.join(splits_of(folder))}"
        )
    return path


def _read_qrels(
    path: Path, queries: Mapping[str, Query], documents: Mapping[str, Document], flaws: Flaws
) -> dict[str, dict[str, int]]:
    """The judgments of known queries, those of unknown documents among them."""
    qrels: dict[str, dict[str, int]] = {}
    for place, line in read_lines(path):
        row = _split_row(place, line)
        if place.line == 1:
            if row != _QRELS_HEADER:
                raise place.fault(
                    f"expected the header {' '.join(_QRELS_HEADER)!r}, found {' '.join(row)!r}",
                    hint="add the header, separated by tabs: readers of BEIR skip the first line",
                )
            continue
        query_id, document_id, grade = row[0], row[1], integer_grade(place, row[2])
        if query_id not in queries:
            flaws.fault(ABSENT_QUERY, place, f"unknown query {query_id!r}")
            continue
        grades = qrels.setdefault(query_id, {})
        if document_id in grades:
            if grades[document_id] != grade:
                raise place.fault(
                    f"query {query_id!r} judges document {document_id!r} twice, with other grades"
                )
            flaws.accept(REPEATED_JUDGMENT)
            continue
        if document_id not in documents:
            flaws.fault(ABSENT_DOCUMENT, place, f"unknown document {document_id!r}")
        grades[document_id] = grade
    return qrels


def _split_row(place: SourceLocation, line: str) -> list[str]:
    try:
        row = next(csv.reader([line], delimiter="\t", strict=True), [])
    except csv.Error as error:
        raise place.fault(f"malformed tab-separated line: {error}") from error
    if len(row) != len(_QRELS_HEADER):
        raise place.fault(f"expected 3 fields separated by tabs, found {len(row)}")
    return row


def _read_excluded(
    path: Path, queries: Mapping[str, Query], documents: Mapping[str, Document], flaws: Flaws
) -> dict[str, frozenset[str]]:
    if not path.is_file():
        return {}
    excluded: dict[str, frozenset[str]] = {}
    for record in read_records(path):
        query_id, ids = record.id("_id"), record.ids("excluded")
        if query_id not in queries:
            flaws.fault(EXCLUSION_OF_ABSENT_QUERY, record.place, f"unknown query {query_id!r}")
            continue
        if query_id in excluded:
            raise record.place.fault(f"query {query_id!r} came before")
        if ids == _NOTHING_EXCLUDED and ids[0] not in documents:
            ids = []
        for unknown in (document_id for document_id in ids if document_id not in documents):
            flaws.fault(EXCLUDED_ABSENT_DOCUMENT, record.place, f"unknown document {unknown!r}")
        excluded[query_id] = frozenset(name for name in ids if name in documents)
    return {query_id: ids for query_id, ids in excluded.items() if ids}


@dataclass(frozen=True, kw_only=True)
class _Manifest:
    """What `collection.json` says."""

    name: str
    metadata: Mapping[str, str]
    data_hash: str
    qrels_hashes: Mapping[str, str]

    def text(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False) + "\n"


def _read_manifest(path: Path) -> _Manifest | None:
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_bytes())
        manifest = _Manifest(**fields)
        strings = [manifest.name, manifest.data_hash]
        for table in (manifest.metadata, manifest.qrels_hashes):
            strings += [*table.keys(), *table.values()]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path} is malformed: {error}", hint="build the collection anew"
        ) from error
    if not all(isinstance(value, str) for value in strings):
        raise DataError(f"{path} is malformed: every value must be a string")
    return manifest


def _check_hashes(folder: Path, split: str, collection: Collection, manifest: _Manifest) -> None:
    pairs = [("corpus.jsonl", manifest.data_hash, collection.data_hash)]
    if split in manifest.qrels_hashes:
        pairs.append((f"split {split}", manifest.qrels_hashes[split], collection.qrels_hash))
    for what, written, found in pairs:
        if written != found:
            raise DataError(
                f"{folder}: {what} changed since it was built: collection.json has the hash "
                f"{written}, the content has {found}",
                hint="build the collection anew, or delete collection.json to use it as it is",
            )


def _checked_splits(splits: Mapping[str, Collection]) -> Collection:
    if not splits:
        raise DataError("a collection needs at least one split")
    first = next(iter(splits.values()))
    texts: dict[str, str] = {}
    for split, part in splits.items():
        if not _SPLIT.fullmatch(split):
            raise DataError(f"{split!r} cannot name a split: letters, digits, '.', '_', '-' only")
        if part.data_hash != first.data_hash or part.metadata != first.metadata:
            raise DataError(f"{part.name}: split {split!r} has other documents or metadata")
        for query in part.queries:
            if texts.setdefault(query.id, query.text) != query.text:
                raise DataError(f"{part.name}: query {query.id!r} differs between splits")
    return first


def _write_jsonl(path: Path, rows: Iterable[Mapping[str, object]]) -> None:
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _write_qrels(path: Path, collection: Collection) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, delimiter="\t", lineterminator="\n")
        writer.writerow(_QRELS_HEADER)
        for query_id, grades in collection.all_qrels.items():
            writer.writerows(
                (query_id, document_id, grade) for document_id, grade in grades.items()
            )
