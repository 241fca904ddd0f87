"""A file of queries that is checked once and then read as a stream, however large it is."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.files import read_lines
from t1_jax.retrieval.collection import Query, text_error
from t1_jax.retrieval.jsonl import read_records
from t1_jax.retrieval.load import parse_query
from t1_jax.retrieval.validation import ValidationReport

_JSONL = (".jsonl", ".jsonl.gz")


@dataclass(frozen=True, kw_only=True)
class QueryFile:
    """A checked file of queries.

    Attributes:
        path: JSONL with `_id` and `text`, or text with one query per line; gzipped or not.
        count: number of queries; None for standard input, which is checked as it is read.
    """

    path: Path
    count: int | None

    @property
    def has_ids(self) -> bool:
        """Whether queries have ids of their own; otherwise their line numbers are their ids."""
        return self.path.name.endswith(_JSONL)

    def queries(self) -> Iterator[Query]:
        """Yields the queries in the order of the file.

        Raises:
            DataError: as `check_query_file`.
        """
        if self.has_ids:
            report = ValidationReport()
            for record in read_records(self.path):
                query = parse_query(record, report)
                if query is None:
                    raise record.location.error("the query is empty", hint="give it a text")
                yield query
            return
        name = "standard input" if str(self.path) == "-" else str(self.path)
        for number, text in read_lines(self.path):
            if not text.strip():
                raise DataError(f"{name}:{number} is empty", hint="remove it, or give it a text")
            if fault := text_error(text):
                raise DataError(f"{name}:{number}: {fault}", hint="write it as UTF-8")
            yield Query(id=str(number), text=text)


def check_query_file(path: Path) -> QueryFile:
    """Reads a file of queries once; only hashes of ids are kept. Standard input, `-`, is not read.

    Raises:
        DataError: the file is missing or malformed, an id occurs twice, or there is no query; names
            file and line.
    """
    if str(path) == "-":
        return QueryFile(path=path, count=None)
    file = QueryFile(path=path, count=0)
    seen: set[bytes] = set()
    count = 0
    for query in file.queries():
        count += 1
        if file.has_ids:
            seen.add(hashlib.blake2b(query.id.encode(), digest_size=8).digest())
            if len(seen) < count:
                raise DataError(
                    f"{path}: query {count} has the id {query.id!r} of an earlier one",
                    hint="give every query an _id of its own",
                )
    if not count:
        raise DataError(f"{path} has no query", hint="write one query per line")
    return QueryFile(path=path, count=count)
