"""Texts a user hands to a command: arguments, lines, JSONL files, corpora and collections."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from t1_jax.errors import ConfigError, DataError

if TYPE_CHECKING:
    from t1_jax.cli.output import Output
    from t1_jax.retrieval import Collection

STANDARD_INPUT = Path("-")


def given_queries(texts: Sequence[str], file: Path | None) -> list[str]:
    """The queries of the arguments, or else of the file, or else of standard input.

    Raises:
        ConfigError: none of them, or arguments and a file both.
        DataError: an empty query, one that is not valid Unicode, or a file that cannot be read;
            names file and line.
    """
    from t1_jax.files import read_lines
    from t1_jax.retrieval import text_error

    if texts and file is not None:
        raise ConfigError("queries were given both as arguments and as a file", hint="give one")
    if not texts and file is None and sys.stdin.isatty():
        raise ConfigError("no query was given", hint='write it: t1 think "why is the sky blue?"')
    source = file or STANDARD_INPUT
    name = "standard input" if source == STANDARD_INPUT else str(source)
    if texts:
        found = [(f"query {number}", text) for number, text in enumerate(texts, 1)]
    else:
        found = [(f"{name}:{number}", text) for number, text in read_lines(source)]
    for place, text in found:
        if not text.strip():
            raise DataError(f"{place} is empty", hint="remove it, or give it a text")
        if fault := text_error(text):
            raise DataError(f"{place}: {fault}", hint="write it as UTF-8")
    if not found:
        raise DataError(f"{name} has no query", hint="write one a line")
    return [text for _, text in found]


def open_documents(source: str, out: "Output", *, lenient: bool) -> "Collection":
    """The documents of a known collection, of a folder with corpus.jsonl, or of a JSONL file.

    Queries and qrels are not needed, and not read; what lenient reading dropped is told to `out`.

    Raises:
        DataError: nothing of that name is here, or the file is malformed.
    """
    from t1_jax.hub import open_documents as open_them

    return told(open_them(source, lenient=lenient), out)


def open_queries(source: str, split: str, out: "Output", *, lenient: bool) -> "Collection":
    """The queries of a JSONL file, or of a split of a collection with what each query excludes.

    Raises:
        DataError: nothing of that name is here, or a file is malformed.
    """
    from t1_jax.retrieval import load_queries

    if source == str(STANDARD_INPUT) or Path(source).is_file():
        return told(load_queries(Path(source), lenient=lenient), out)
    return open_split(source, split, out, lenient=lenient)


def open_split(name_or_folder: str, split: str, out: "Output", *, lenient: bool) -> "Collection":
    """One split of a collection on this machine; what lenient reading dropped is told to `out`.

    Raises:
        DataError: nothing of that name is here, or a file is malformed.
    """
    from t1_jax.hub import open_collection

    return told(open_collection(name_or_folder, split, lenient=lenient), out)


def told(collection: "Collection", out: "Output") -> "Collection":
    """The collection, after a line for each kind of flaw that its readers counted."""
    for note, count in collection.notes.items():
        out.note(f"{collection.name}: {count:,} {note}")
    return collection
