"""Reading text files line by line, so that every fault can name its file and line."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from t1_jax.errors import DataError
from t1_jax.retrieval.collection import fault_of_id, fault_of_text


@dataclass(frozen=True, kw_only=True)
class Place:
    """A line of a file, counted from 1."""

    path: Path
    line: int

    def fault(self, message: str, *, mend: str | None = None) -> DataError:
        """The error that says `message` happened here."""
        return DataError(f"{self.path}:{self.line}: {message}", mend=mend)


def read_lines(path: Path) -> Iterator[tuple[Place, str]]:
    """Yields each line without its line feed, decoded as UTF-8.

    Raises:
        DataError: the file cannot be opened, or a line is not UTF-8.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    with file:
        for number, raw in enumerate(file, 1):
            place = Place(path=path, line=number)
            try:
                yield place, raw.decode().rstrip("\r\n")
            except UnicodeDecodeError as error:
                raise place.fault(
                    f"byte {error.start} of the line is not UTF-8", mend="save the file as UTF-8"
                ) from error


def integer_grade(place: Place, text: str) -> int:
    """The grade that `text` spells.

    Raises:
        DataError: it is not an integer of at most nine digits.
    """
    if not re.fullmatch(r"[+-]?[0-9]{1,9}", text):
        raise place.fault(f"the grade must be an integer, found {text!r}")
    return int(text)


@dataclass(frozen=True, kw_only=True)
class Record:
    """One JSON object of a JSONL file, with checked access to its fields."""

    place: Place
    fields: dict[str, object]

    def id(self, name: str) -> str:
        """The identifier under `name`."""
        return self._checked(name, fault_of_id(value := self._string(name)), value)

    def text(self, name: str) -> str:
        """The text under `name`, which may not be blank."""
        return self._checked(name, fault_of_text(value := self._string(name)), value)

    def optional_text(self, name: str) -> str:
        """The text under `name`, or "" where the field is absent, null or empty."""
        return self.text(name) if self.fields.get(name) not in (None, "") else ""

    def ids(self, name: str) -> list[str]:
        """The list of identifiers under `name`."""
        value = self._present(name)
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            raise self.place.fault(f'field "{name}" must be a list of strings')
        for item in value:
            self._checked(name, fault_of_id(item), item)
        return value

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


def read_records(path: Path) -> Iterator[Record]:
    """Yields the JSON objects of a JSONL file; fields that nobody asks for are let be.

    Raises:
        DataError: an empty line, malformed JSON, or a line that is not an object.
    """
    for place, line in read_lines(path):
        if not line.strip():
            raise place.fault("the line is empty", mend="delete it")
        try:
            fields = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise place.fault(f"malformed JSON: {error}") from error
        if not isinstance(fields, dict):
            raise place.fault(f"expected a JSON object, found {type(fields).__name__}")
        yield Record(place=place, fields=fields)
