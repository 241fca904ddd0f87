"""Training records in JSONL and Parquet files; errors name file and line."""

import io
import json
from collections.abc import Container, Iterable, Iterator
from pathlib import Path

from t1_jax.config import suggestion
from t1_jax.errors import DataError
from t1_jax.files import write_atomically
from t1_jax.retrieval import Record, SourceLocation
from t1_jax.retrieval import read_records as read_objects
from t1_jax.train.data.records import TrainingRecord, first_repeated_id, record_fields
from t1_jax.train.data.table_files import read_rows

KEYS = ("query_id", "query", "positives", "negatives", "excluded", "thought", "instruction")
_FORMATS = (".jsonl", ".parquet")


def read_records(
    *paths: Path, documents: Container[str] | None = None
) -> tuple[TrainingRecord, ...]:
    """The records of `.jsonl` or `.parquet` files, in their order.

    Keys (columns): `query_id` and `query`; `positives`, a list of document ids (grade 1) or an
    object of id -> grade (in Parquet a map); optionally `negatives` and `excluded`, lists of ids,
    `thought`, a text or a list of alternatives, and `instruction`. Null equals a missing key. The
    ids of `documents` are those of the corpus; None accepts any.

    Raises:
        DataError: with file and line (Parquet: row): an unknown or missing key, a value of another
            type, a repeated query id, a document that is not in the corpus, or a record that
            `TrainingRecord` rejects; or a file that is unreadable, empty or of another format.
    """
    records: list[TrainingRecord] = []
    places: dict[str, SourceLocation] = {}
    for path in paths:
        before = len(records)
        for item in _objects(path):
            record = _record(item)
            if record.query_id in places:
                place = places[record.query_id]
                where = "" if place.path == path else f" of {place.path}"
                raise item.location.error(
                    f"the query {record.query_id!r} occurred before, as number {place.line}{where}"
                )
            _check_documents(item.location, record, documents)
            places[record.query_id] = item.location
            records.append(record)
        if len(records) == before:
            raise DataError(f"{path} has no record")
    return tuple(records)


def _objects(path: Path) -> Iterator[Record]:
    if _format(path) != ".parquet":
        return read_objects(path)
    return (Record(location=row.location, fields=dict(row.fields)) for row in read_rows(path))


def _check_documents(
    place: SourceLocation, record: TrainingRecord, documents: Container[str] | None
) -> None:
    if documents is None:
        return
    for name in record.document_ids:
        if name not in documents:
            raise place.error(
                f"the query {record.query_id!r} names the document {name!r}, which the corpus "
                "does not have",
                hint="check the id, or remove it from the record",
            )


def write_records(path: Path, records: Iterable[TrainingRecord]) -> None:
    """Writes records atomically, for `read_records`.

    Raises:
        DataError: a repeated query id, or a name that ends in neither `.jsonl` nor `.parquet`.
        T1Error: the write failed.
    """
    records = tuple(records)
    if twice := first_repeated_id(records):
        raise DataError(f"{path}: the query {twice!r} occurs twice")
    if _format(path) == ".parquet":
        write_atomically(path, _parquet_bytes(records))
        return
    lines = (json.dumps(record_fields(record), ensure_ascii=False) + "\n" for record in records)
    write_atomically(path, "".join(lines))


def _format(path: Path) -> str:
    if path.suffix not in _FORMATS:
        raise DataError(
            f"{path} has an unknown format",
            hint=f"use a file name that ends in {' or '.join(_FORMATS)}",
        )
    return path.suffix


def _record(item: Record) -> TrainingRecord:
    place = item.location
    for name in item.fields:
        if name not in KEYS:
            raise place.error(f"unknown key {name!r}", hint=suggestion(name, KEYS))
    # A Parquet column is null where a record has no value.
    item = Record(location=place, fields={k: v for k, v in item.fields.items() if v is not None})
    has = item.fields.keys()
    fields = {
        "query_id": item.id("query_id"),
        "query": item.text("query"),
        "positives": _positives(item),
        "negatives": tuple(item.ids("negatives")) if "negatives" in has else (),
        "excluded": frozenset(item.ids("excluded")) if "excluded" in has else frozenset(),
        "thoughts": _thoughts(item) if "thought" in has else (),
        "instruction": item.text("instruction") if "instruction" in has else None,
    }
    try:
        return TrainingRecord(**fields)
    except DataError as error:
        raise place.error(error.message, hint=error.hint) from error


def _positives(item: Record) -> dict[str, int]:
    value = item.fields.get("positives")
    if not isinstance(value, dict):
        names = item.ids("positives")
        if len(positives := dict.fromkeys(names, 1)) < len(names):
            raise item.location.error('field "positives" names a document twice')
        return positives
    for name, grade in value.items():
        # True is an int in Python. A grade may be written 1.0, as in qrels.
        is_whole = isinstance(grade, int | float) and grade == grade // 1
        if not is_whole or isinstance(grade, bool):
            raise item.location.error(
                f'field "positives": the grade of {name!r} must be an integer, found {grade!r}'
            )
    return {str(name): int(grade) for name, grade in value.items()}


def _thoughts(item: Record) -> tuple[str, ...]:
    value = item.fields["thought"]
    if isinstance(value, str):
        return (value,)
    if isinstance(value, list) and all(isinstance(thought, str) for thought in value):
        return tuple(value)
    raise item.location.error('field "thought" must be a string or a list of strings')


def _parquet_bytes(records: tuple[TrainingRecord, ...]) -> bytes:
    import pyarrow
    from pyarrow import parquet

    texts = pyarrow.list_(pyarrow.string())
    schema = pyarrow.schema(
        {
            "query_id": pyarrow.string(),
            "query": pyarrow.string(),
            "positives": pyarrow.map_(pyarrow.string(), pyarrow.int64()),
            "negatives": texts,
            "excluded": texts,
            "thought": texts,
            "instruction": pyarrow.string(),
        }
    )
    rows = [
        {
            "query_id": record.query_id,
            "query": record.query,
            "positives": list(record.positives.items()),
            "negatives": list(record.negatives),
            "excluded": sorted(record.excluded),
            "thought": list(record.thoughts),
            "instruction": record.instruction,
        }
        for record in records
    ]
    buffer = io.BytesIO()
    parquet.write_table(pyarrow.Table.from_pylist(rows, schema=schema), buffer)
    return buffer.getvalue()
