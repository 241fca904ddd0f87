"""Texts a user hands to a command: arguments, lines of a file or of standard input, or JSONL."""

import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t1_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from t1_jax.retrieval import Document

STANDARD_INPUT = Path("-")


def given_queries(texts: Sequence[str], file: Path | None) -> list[str]:
    """The queries of the arguments, or else of the file, or else of standard input.

    Raises:
        ConfigError: none of them, or arguments and a file both.
        DataError: an empty query, or a file that cannot be read; names file and line.
    """
    if texts and file is not None:
        raise ConfigError("queries were given both as arguments and as a file", mend="give one")
    if not texts and file is None and sys.stdin.isatty():
        raise ConfigError("no query was given", mend='write it: t1 think "why is the sky blue?"')
    if texts:
        found = [(f"query {number}", text) for number, text in enumerate(texts, 1)]
    else:
        found = list(_lines(file or STANDARD_INPUT))
    for place, text in found:
        if not text.strip():
            raise DataError(f"{place} is empty", mend="remove it, or give it a text")
    if not found:
        raise DataError(f"{file or 'standard input'} has no query", mend="write one a line")
    return [text for _, text in found]


def read_documents(path: Path) -> "list[Document]":
    """The documents (or queries) of a JSONL file with `_id` or `id`, `text`, and maybe `title`.

    Raises:
        DataError: with file and line, whatever is malformed or missing.
    """
    from t1_jax.retrieval import Document

    documents = []
    for place, line in _lines(path):
        fields = _object(place, line)
        identifier = _string(place, fields, "_id" if "_id" in fields else "id")
        text = _string(place, fields, "text")
        title = _string(place, fields, "title") if fields.get("title") else ""
        try:
            documents.append(Document(id=identifier, text=text, title=title))
        except DataError as error:
            raise DataError(f"{place}: {error.message}", mend=error.mend) from error
    if not documents:
        raise DataError(f"{path} is empty")
    return documents


def _lines(path: Path) -> Iterator[tuple[str, str]]:
    """Each line with its place, `file:line`."""
    try:
        raw = sys.stdin.buffer.read() if path == STANDARD_INPUT else path.read_bytes()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error
    name = "standard input" if path == STANDARD_INPUT else str(path)
    for number, line in enumerate(raw.splitlines(), 1):
        try:
            yield f"{name}:{number}", line.decode()
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number}: byte {error.start} of the line is not UTF-8",
                mend="save the file as UTF-8",
            ) from error


def _object(place: str, line: str) -> dict[str, object]:
    try:
        fields = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{place}: malformed JSON: {error}") from error
    if not isinstance(fields, dict):
        raise DataError(f"{place}: expected a JSON object, found {type(fields).__name__}")
    return fields


def _string(place: str, fields: dict[str, object], name: str) -> str:
    value = fields.get(name)
    if not isinstance(value, str):
        found = f"{type(value).__name__}" if name in fields else f"only {', '.join(sorted(fields))}"
        raise DataError(f'{place}: field "{name}" must be a string, found {found}')
    return value
