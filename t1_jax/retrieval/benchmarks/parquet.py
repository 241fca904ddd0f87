"""Parquet files read row by row; every error names the file and the row."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import SourceLocation
from t1_jax.retrieval.jsonl import Record

_BATCH_ROWS = 256
"""Rows in memory at a time: whole documents of BRIGHT have up to 9 million characters."""


def parquet_files(folder: Path, stem: str, *, hint: str) -> list[Path]:
    """The files `STEM-00000-of-00002.parquet` and so on, in order.

    Raises:
        DataError: a file is missing; with `hint`.
    """
    first = next(iter(sorted(folder.glob(f"{stem}-00000-of-?????.parquet"))), None)
    count = int(first.stem.rpartition("-of-")[2]) if first and first.stem[-5:].isdigit() else 1
    paths = [folder / f"{stem}-{number:05d}-of-{count:05d}.parquet" for number in range(count)]
    for path in paths:
        if not path.is_file():
            raise DataError(f"{path} does not exist", hint=hint)
    return paths


def parquet_records(
    path: Path, columns: Sequence[str], optional: Sequence[str] = ()
) -> Iterator[Record]:
    """Yields the rows with the named columns; the row, from 1, is the line of their location.

    Columns in `optional` may be missing.

    Raises:
        DataError: the file is not Parquet, is damaged, or lacks a column.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            present = file.schema_arrow.names
            if missing := [name for name in columns if name not in present]:
                raise DataError(
                    f"{path} has no column {missing[0]!r}; found {', '.join(present) or 'none'}"
                )
            read = [*columns, *(name for name in optional if name in present)]
            row = 0
            for batch in file.iter_batches(_BATCH_ROWS, columns=read):
                for fields in batch.to_pylist():
                    row += 1
                    yield Record(location=SourceLocation(path=path, line=row), fields=fields)
    except (pa.ArrowException, OSError, UnicodeDecodeError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as Parquet: {str(error).splitlines()[0]}",
            hint="get the file again",
        ) from error
