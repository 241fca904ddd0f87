"""Reads one file as passages: plain text and source code, Markdown, JSONL, CSV and Parquet.

JSONL and CSV are read by the standard library, which gives the line of each record, as pyarrow's
readers do not; Parquet, which has rows instead of lines, by pyarrow.
"""

import codecs
import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.retrieval.folder.passages import Passage, split_markdown, split_text

MAX_BYTES = 32 << 20
"""Larger files are not read: they are dumps and logs, which would take hours to encode."""

_TITLE_FIELDS = ("title", "name", "subject", "heading")
_TEXT_FIELDS = ("text", "content", "contents", "body", "passage", "abstract", "description")
_MARKDOWN = frozenset({".md", ".markdown", ".mdx"})
_PROSE = frozenset({".txt", ".text", ".rst", ".org", ".adoc", ".tex", ""})
_PARQUET_MAGIC = b"PAR1"
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_SNIFFED_CHARACTERS = 1 << 16


def read_passages(file: Path, name: str) -> list[Passage]:
    """The passages of a file; `name` is its path as users see it.

    A JSONL or CSV file that does not have the form of one is read as text.

    Raises:
        DataError: it holds no text (`binary`), or is not readable as its format; says why.
        OSError: it cannot be read.
    """
    data = file.read_bytes()
    suffix, stem = file.suffix.lower(), file.stem
    if data[:4] == _PARQUET_MAGIC:
        return _from_records(_parquet_rows(data))
    text = _decoded(data)
    try:
        if suffix in (".jsonl", ".ndjson"):
            return _from_records(_json_rows(text))
        if suffix in (".csv", ".tsv"):
            return _from_records(_csv_rows(text, suffix))
    except (ValueError, csv.Error):
        pass
    if suffix in _MARKDOWN:
        return split_markdown(text, stem)
    title = stem if suffix in _PROSE else name
    return [Passage(text=p.text, line=p.line, title=title) for p in split_text(text)]


def _decoded(data: bytes) -> str:
    """The text of a file in UTF-8, or in UTF-16 with a byte order mark."""
    if not data.startswith(_UTF16) and b"\0" in data[:8192]:
        raise DataError("binary")
    try:
        text = data.decode("utf-16" if data.startswith(_UTF16) else "utf-8-sig")
    except UnicodeDecodeError as error:
        raise DataError("binary, or text that is not UTF-8") from error
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\0", "\ufffd")


def _json_rows(text: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            try:
                row = json.loads(line)
            except RecursionError as error:
                raise ValueError("nested too deeply") from error
            if not isinstance(row, dict):
                raise ValueError("not an object")
            yield number, row


def _csv_rows(text: str, suffix: str) -> Iterator[tuple[int, Mapping[str, Any]]]:
    """The rows below the header; the delimiter of a .csv file is found from its first rows."""
    csv.field_size_limit(MAX_BYTES)
    delimiter = "\t"
    if suffix == ".csv":
        delimiter = csv.Sniffer().sniff(text[:_SNIFFED_CHARACTERS], ",;\t|").delimiter
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, strict=True)
    header = next(reader)
    before = reader.line_num
    for row in reader:
        if len(row) > len(header):
            raise ValueError("more fields than the header has")
        yield before + 1, dict(zip(header, row, strict=False))
        before = reader.line_num


def _parquet_rows(data: bytes) -> Iterator[tuple[int, Mapping[str, Any]]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        batches = pq.ParquetFile(pa.BufferReader(data)).iter_batches()
        rows = (row for batch in batches for row in batch.to_pylist())
        yield from enumerate(rows, 1)
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"damaged Parquet: {str(error).splitlines()[0]}") from error


def _from_records(rows: Iterable[tuple[int, Mapping[str, Any]]]) -> list[Passage]:
    """The passages of records: their field `text` and the like, else all fields by name."""
    passages = []
    for line, row in rows:
        fields = {str(key): value for key, value in row.items()}
        lower = {key.lower(): value for key, value in fields.items()}
        title = _first(lower, _TITLE_FIELDS)
        text = _first(lower, _TEXT_FIELDS) or _all_fields(fields)
        passages += [
            Passage(text=part.text, line=line, title=" ".join(title.split()))
            for part in split_text(text)
        ]
    return passages


def _first(fields: Mapping[str, Any], names: Iterable[str]) -> str:
    """The first of these fields that is a text."""
    values = (fields.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value.strip()), "")


def _all_fields(fields: Mapping[str, Any]) -> str:
    shown = {
        key: value if isinstance(value, str) else json.dumps(value, default=str, ensure_ascii=False)
        for key, value in fields.items()
        if value is not None and value != ""
    }
    return "\n".join(f"{key}: {value}" for key, value in shown.items())
