"""JSONL files read line by line; every error names the file and the line."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import t1_jax.files as files
from t1_jax.retrieval.collection import SourceLocation, id_error, text_error

MAX_RELEVANCE_LABEL = 999_999
"""Upper bound of relevance labels: memory and time of trec_eval are proportional to the largest."""


def read_lines(path: Path) -> Iterator[tuple[SourceLocation, str]]:
    """Yields each line with its location; see `t1_jax.files.read_lines`."""
    for number, line in files.read_lines(path):
        yield SourceLocation(path=path, line=number), line


def parse_relevance_label(location: SourceLocation, text: str) -> int:
    """The relevance label in `text`; "1.0" is read as 1, as in trec_eval.

    Raises:
        DataError: it is not an integer, or its magnitude exceeds `MAX_RELEVANCE_LABEL`.
    """
    match = re.fullmatch(r"([+-]?[0-9]{1,6})(\.0*)?", text)
    if match is None:
        raise location.error(
            "the relevance label must be an integer of at most "
            f"{len(str(MAX_RELEVANCE_LABEL))} digits, found {text!r}"
        )
    return int(match[1])


@dataclass(frozen=True, kw_only=True)
class Record:
    """One JSON object of a JSONL file, with checked access to its fields."""

    location: SourceLocation
    fields: dict[str, object]

    def id(self, name: str) -> str:
        """The identifier under `name`; an integer becomes its digits, as in BEIR's reader."""
        value = self._present(name)
        value = str(value) if _is_integer(value) else self._string(name)
        return self._checked(name, id_error(value), value)

    def text(self, name: str) -> str:
        """The text under `name`; it must not be blank."""
        return self._checked(name, text_error(value := self._string(name)), value)

    def optional_text(self, name: str) -> str:
        """The text under `name`, or "" if the field is absent, null or blank."""
        value = self.fields.get(name)
        blank = value is None or (isinstance(value, str) and not value.strip())
        return "" if blank else self.text(name)

    def nullable_text(self, name: str) -> str:
        """The text under `name`, or "" if it is null or blank; the field must be present."""
        self._present(name)
        return self.optional_text(name)

    def ids(self, name: str) -> list[str]:
        """The list of identifiers under `name`; see `id`."""
        value = self._present(name)
        items = value if isinstance(value, list) else [None]
        if not all(isinstance(item, str) or _is_integer(item) for item in items):
            raise self.location.error(f'field "{name}" must be a list of strings')
        return [self._checked(name, id_error(str(item)), str(item)) for item in items]

    def relevance_label(self, name: str) -> int:
        """The relevance label under `name`, a number or a text; see `parse_relevance_label`."""
        value = self._present(name)
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise self.location.error(f'field "{name}" must be an integer, found {value!r}')
        return parse_relevance_label(self.location, str(value))

    def objects(self, name: str) -> "list[Record]":
        """The list of JSON objects under `name`."""
        value = self._present(name)
        items = value if isinstance(value, list) else [None]
        objects = [item for item in items if isinstance(item, dict)]
        if len(objects) < len(items):
            raise self.location.error(f'field "{name}" must be a list of objects')
        return [Record(location=self.location, fields=item) for item in objects]

    def _present(self, name: str) -> object:
        if name not in self.fields:
            raise self.location.error(
                f'field "{name}" is missing; found {", ".join(sorted(self.fields)) or "none"}'
            )
        return self.fields[name]

    def _string(self, name: str) -> str:
        value = self._present(name)
        if not isinstance(value, str):
            raise self.location.error(
                f'field "{name}" must be a string, found {type(value).__name__} {value!r}'
            )
        return value

    def _checked(self, name: str, error: str | None, value: str) -> str:
        if error:
            raise self.location.error(f'field "{name}": {error}')
        return value


def _is_integer(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)  # bool is a subclass of int


def parse_json(location: SourceLocation, line: str) -> object:
    """The JSON value of a line.

    Raises:
        DataError: an empty line, or malformed JSON.
    """
    if not line.strip():
        raise location.error("the line is empty", hint="delete it")
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise location.error(f"malformed JSON: {error}") from error


def parse_record(location: SourceLocation, line: str) -> Record:
    """The JSON object of a line; unknown fields are ignored.

    Raises:
        DataError: an empty line, malformed JSON, or a line that is not an object.
    """
    fields = parse_json(location, line)
    if not isinstance(fields, dict):
        raise location.error(f"expected a JSON object, found {type(fields).__name__}")
    return Record(location=location, fields=fields)


def read_records(path: Path) -> Iterator[Record]:
    """Yields the JSON objects of a JSONL file; see `parse_record`."""
    for location, line in read_lines(path):
        yield parse_record(location, line)
