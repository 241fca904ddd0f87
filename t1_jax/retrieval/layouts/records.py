"""Files of records, whatever their format: each record has a location and is parsed by itself."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeAlias, TypeVar

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import SourceLocation
from t1_jax.retrieval.validation import ValidationReport

Item = TypeVar("Item")

RawRecords: TypeAlias = Iterator[tuple[SourceLocation, str]]
"""The records of a file as text, each with the line where it begins."""


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A document or a query as its file has it; text and title may be blank."""

    location: SourceLocation
    id: str
    text: str
    title: str = ""


@dataclass(frozen=True, kw_only=True)
class Label:
    """The relevance label of a document for a query."""

    location: SourceLocation
    query_id: str
    document_id: str
    label: int


@dataclass(frozen=True, kw_only=True)
class Exclusion:
    """The documents to remove from the ranking of a query."""

    location: SourceLocation
    query_id: str
    document_ids: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class RecordFile(Generic[Item]):
    """A file of records.

    Attributes:
        path: the file.
        split: cuts the file into records.
        parse: parses one of them; raises DataError with its location if it is malformed.
    """

    path: Path
    split: Callable[[Path], RawRecords]
    parse: Callable[[SourceLocation, str], Item]

    def read(self, report: ValidationReport, *, lenient: bool) -> Iterator[Item]:
        """Yields the parsed records; with `lenient`, malformed ones are counted in the report.

        Raises:
            DataError: a malformed record, unless `lenient`, or a file that cannot be read.
        """
        for location, raw in self.split(self.path):
            try:
                item = self.parse(location, raw)
            except DataError as error:
                if not lenient:
                    hint = error.hint or "correct the line, or drop such records with --lenient"
                    raise DataError(error.message, hint=hint) from error
                report.add_malformed(location, error.message)
                continue
            yield item
