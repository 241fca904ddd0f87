"""Reading text files line by line, so that every fault can name its file and line."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import t1_jax.files as files
from t1_jax.errors import DataError
from t1_jax.retrieval.collection import fault_of_id, fault_of_text

MAX_GRADE = 999_999
"""The highest grade: trec_eval takes memory and time in proportion to it."""


@dataclass(frozen=True, kw_only=True)
class SourceLocation:
    """A line of a file, counted from 1."""

    path: Path
    line: int

    def fault(self, message: str, *, hint: str | None = None) -> DataError:
        """The error that says `message` happened here."""
        return DataError(f"{self.path}:{self.line}: {message}", hint=hint)


def read_lines(path: Path) -> Iterator[tuple[SourceLocation, str]]:
    """Yields each line with its place; see `t1_jax.files.read_lines`."""
    for number, line in files.read_lines(path):
        yield SourceLocation(path=path, line=number), line


def integer_grade(place: SourceLocation, text: str) -> int:
    """The grade that `text` spells; "1.0" is 1, as trec_eval reads it.

    Raises:
        DataError: it is not an integer, or its magnitude exceeds `MAX_GRADE`.
    """
    match = re.fullmatch(r"([+-]?[0-9]{1,6})(\.0*)?", text)
    if match is None:
        raise place.fault(
            f"the grade must be an integer of at most {len(str(MAX_GRADE))} digits, found {text!r}"
        )
    return int(match[1])


@dataclass(frozen=True, kw_only=True)
class Record:
    """One JSON object of a JSONL file, with checked access to its fields."""

    place: SourceLocation
    fields: dict[str, object]

    def id(self, name: str) -> str:
        """The identifier under `name`; an integer is taken as its digits, as BEIR's readers do."""
        value = self._present(name)
        value = str(value) if _is_integer(value) else self._string(name)
        return self._checked(name, fault_of_id(value), value)

    def text(self, name: str) -> str:
        """The text under `name`, which may not be blank."""
        return self._checked(name, fault_of_text(value := self._string(name)), value)

    def optional_text(self, name: str) -> str:
        """The text under `name`, or "" where the field is absent, null or blank."""
        value = self.fields.get(name)
        blank = value is None or (isinstance(value, str) and not value.strip())
        return "" if blank else self.text(name)

    def nullable_text(self, name: str) -> str:
        """The text under `name`, which must be there; "" where it is null or blank."""
        self._present(name)
        return self.optional_text(name)

    def ids(self, name: str) -> list[str]:
        """The list of identifiers under `name`; see `id`."""
        value = self._present(name)
        items = value if isinstance(value, list) else [None]
        if not all(isinstance(item, str) or _is_integer(item) for item in items):
            raise self.place.fault(f'field "{name}" must be a list of strings')
        return [self._checked(name, fault_of_id(str(item)), str(item)) for item in items]

    def _present(self, name: str) -> object:
        if name not in self.fields:
            raise self.place.fault(
                f'field "{name}" is missing; found {", ".join(sorted(self.fields)) or "none"}'
            )
        return self.fields[name]

    def _string(self, name: str) -> str:
        value = self._present(name)
        if not isinstance(value, str):
            raise self.place.fault(
                f'field "{name}" must be a string, found {type(value).__name__} {value!r}'
            )
        return value

    def _checked(self, name: str, fault: str | None, value: str) -> str:
        if fault:
            raise self.place.fault(f'field "{name}": {fault}')
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # JSON's true is an int to Python


def read_records(path: Path) -> Iterator[Record]:
    """Yields the JSON objects of a JSONL file; fields that nobody asks for are let be.

    Raises:
        DataError: an empty line, malformed JSON, or a line that is not an object.
    """
    for place, line in read_lines(path):
        if not line.strip():
            raise place.fault("the line is empty", hint="delete it")
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise place.fault(f"malformed JSON: {error}") from error
        if not isinstance(fields, dict):
            raise place.fault(f"expected a JSON object, found {type(fields).__name__}")
        yield Record(place=place, fields=fields)
