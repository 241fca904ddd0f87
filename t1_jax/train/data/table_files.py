"""Rows of JSONL, JSON, CSV, TSV and Parquet files with their places; `.gz` is decompressed."""

import csv
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.files import read_lines
from t1_jax.retrieval import SourceLocation, parse_json

SUFFIXES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
_BATCH_ROWS = 4096


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row: its fields by name, or the values of a JSON list."""

    location: SourceLocation
    fields: dict[str, Any] | list[Any]


def read_rows(path: Path) -> Iterator[Row]:
    """Yields the rows of a file; empty cells of CSV and TSV are left out.

    Raises:
        DataError: a file that is unreadable or of another format; names file and line.
    """
    if path.is_dir():
        raise DataError(
            f"{path} is a folder",
            hint="give a file; the folder of a collection is given alone, without other files",
        )
    suffix = Path(path.stem).suffix if path.suffix == ".gz" else path.suffix
    if suffix not in SUFFIXES or (suffix == ".parquet" and path.suffix == ".gz"):
        raise DataError(
            f"{path} has an unknown format",
            hint=f"give the file a name that ends in {', '.join(SUFFIXES)}",
        )
    if suffix == ".parquet":
        return _parquet_rows(path)
    if suffix in (".csv", ".tsv"):
        return _delimited_rows(path, "," if suffix == ".csv" else "\t")
    return _json_rows(path)


def _json_rows(path: Path) -> Iterator[Row]:
    """Rows of a file with a JSON value on each line, or with one list of objects."""
    lines = list(read_lines(path))
    if lines and path.name.removesuffix(".gz").endswith(".json"):
        try:
            whole = json.loads("\n".join(line for _, line in lines))
        except (ValueError, RecursionError):
            whole = None  # lines, as in JSONL
        if isinstance(whole, list) and all(isinstance(item, dict) for item in whole):
            for number, fields in enumerate(whole, 1):
                yield Row(location=NumberedRow(path=path, line=number), fields=fields)
            return
    for number, line in lines:
        location = SourceLocation(path=path, line=number)
        fields = parse_json(location, line)
        if not isinstance(fields, dict | list):
            raise location.error(f"expected an object or a list, found {type(fields).__name__}")
        yield Row(location=location, fields=fields)


def _delimited_rows(path: Path, delimiter: str) -> Iterator[Row]:
    lines = (f"{line}\n" for _, line in read_lines(path))
    reader = csv.DictReader(lines, delimiter=delimiter, restkey="", strict=True)
    try:
        for fields in reader:
            location = SourceLocation(path=path, line=reader.line_num)
            if "" in fields:
                raise location.error(
                    f"the row has more than {len(reader.fieldnames or ())} fields",
                    hint="put texts that contain the delimiter into double quotes",
                )
            yield Row(location=location, fields={name: v for name, v in fields.items() if v})
    except csv.Error as error:
        location = SourceLocation(path=path, line=reader.line_num)
        raise location.error(f"malformed row: {error}") from error


@dataclass(frozen=True, kw_only=True)
class NumberedRow(SourceLocation):
    """A row that has no line of its own, counted from 1."""

    def error(self, message: str, *, hint: str | None = None) -> DataError:
        """See `SourceLocation.error`."""
        return DataError(f"{self.path}, row {self.line}: {message}", hint=hint)


def _parquet_rows(path: Path) -> Iterator[Row]:
    import pyarrow
    from pyarrow import parquet

    try:
        with parquet.ParquetFile(path) as file:
            maps = [
                entry.name for entry in file.schema_arrow if isinstance(entry.type, pyarrow.MapType)
            ]
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH_ROWS):
                for fields in batch.to_pylist():
                    number += 1
                    location = NumberedRow(path=path, line=number)
                    for name in maps:
                        fields[name] = _object(location, name, fields[name])
                    yield Row(location=location, fields=fields)
    except (OSError, pyarrow.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


def _object(
    location: SourceLocation, name: str, pairs: list[tuple[str, object]] | None
) -> dict[str, object] | None:
    """A Parquet map as a JSON object, which has no repeated keys."""
    if pairs is None:
        return None
    entries = dict(pairs)
    if len(entries) < len(pairs):
        raise location.error(f'field "{name}" has a key twice')
    return entries
