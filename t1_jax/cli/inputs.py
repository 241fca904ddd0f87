"""What a user gives to a command: a config, queries, documents, collections."""

import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from t1_jax.errors import ConfigError, DataError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.cli.output import Output
    from t1_jax.retrieval import Collection, Document

STANDARD_INPUT = Path("-")
Config = TypeVar("Config")


def read_config(
    cls: type[Config], arguments: Sequence[str] | None, *, default: Path | None = None
) -> Config:
    """Reads the arguments `[CONFIG] [KEY=VALUE]...` of a command: at most one file, and fields.

    Without a file among them, `default` is read.

    Raises:
        ConfigError: two files, an argument that is neither a file nor a field, or an invalid value.
    """
    from t1_jax.config import load_config

    file, fields = split_arguments(arguments or ())
    import_beside(file)
    return load_config(cls, file or default, fields)


def import_beside(file: Path | None) -> None:
    """Lets a config name functions in Python files beside it, or in the current folder.

    These folders come last, so that no file in them hides an installed package.
    """
    folders = [Path.cwd()] if file is None else [file.resolve().parent, Path.cwd()]
    sys.path.extend(str(folder) for folder in folders if str(folder) not in sys.path)


def split_arguments(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The file, if there is one, and the fields among `[CONFIG] [KEY=VALUE]...`.

    Raises:
        ConfigError: two files, or an argument that is neither a file nor a field.
    """
    fields = [argument for argument in arguments if re.match(r"[\w.]+=", argument)]
    files = [argument for argument in arguments if argument not in fields]
    for argument in files:
        if not argument.endswith((".yaml", ".yml")):
            raise ConfigError(
                f"{argument!r} is neither a .yaml file nor KEY=VALUE",
                hint="write fields as KEY=VALUE without spaces around =",
            )
    if len(files) > 1:
        raise ConfigError(
            f"more than one config was given: {', '.join(files)}",
            hint="give one; a config can build on another with `extends: other.yaml`",
        )
    return (Path(files[0]) if files else None), fields


def read_queries(texts: Sequence[str], file: Path | None) -> list[str]:
    """The queries from the arguments, or else from the file, or else from standard input.

    Raises:
        ConfigError: there are none, or both arguments and a file.
        DataError: an empty query, invalid Unicode, or an unreadable file; names file and line.
    """
    from t1_jax.files import read_lines
    from t1_jax.retrieval import text_error

    if texts and file is not None:
        raise ConfigError(
            "queries were given both as arguments and as a file", hint="give only one of them"
        )
    if not texts and file is None and sys.stdin.isatty():
        raise ConfigError("no query was given", hint='t1 think "why is the sky blue?"')
    source = file or STANDARD_INPUT
    name = "standard input" if source == STANDARD_INPUT else str(source)
    if texts:
        numbered = [(f"query {number}", text) for number, text in enumerate(texts, 1)]
    else:
        numbered = [(f"{name}:{number}", text) for number, text in read_lines(source)]
    for location, text in numbered:
        if not text.strip():
            raise DataError(f"{location} is empty", hint="remove it, or give it a text")
        if fault := text_error(text):
            raise DataError(f"{location}: {fault}", hint="write it as UTF-8")
    if not numbered:
        raise DataError(f"{name} has no query", hint="write one query per line")
    return [text for _, text in numbered]


def open_documents(source: str, out: "Output", *, lenient: bool) -> "Collection":
    """The documents of a collection, or of a file.

    Queries and qrels are neither needed nor read.

    Raises:
        DataError: nothing with that name exists, or the file is malformed.
    """
    from t1_jax.hub import open_documents as open_them

    return _with_flaws_logged(open_them(source, lenient=lenient), out)


@dataclass(frozen=True, kw_only=True)
class Corpus:
    """Documents that are read as a stream.

    Attributes:
        documents: in order.
        count: their number.
        task: the task of a known collection.
    """

    documents: Iterable["Document"]
    count: int
    task: str | None = None


def open_corpus(source: str, out: "Output", *, lenient: bool) -> Corpus:
    """The documents of a collection, or of a file.

    They are read once to check it, and again as a stream; standard input is read into memory.

    Raises:
        DataError: nothing with that name exists, or the file is malformed.
    """
    from t1_jax.hub import collection_folder
    from t1_jax.retrieval import check_corpus_file, datasets

    if source == str(STANDARD_INPUT):
        texts = open_documents(source, out, lenient=lenient)
        return Corpus(documents=texts.documents, count=len(texts.documents))
    is_file = source not in datasets.DATASETS and Path(source).is_file()
    path = Path(source) if is_file else collection_folder(source)
    corpus = check_corpus_file(path, lenient=lenient)
    for problem, count in corpus.notes.items():
        out.log(f"{path}: {counted(count, problem)}")
    task = source if source in datasets.DATASETS else None
    return Corpus(documents=corpus.documents(), count=corpus.count, task=task)


def open_queries(source: str, split: str, out: "Output", *, lenient: bool) -> "Collection":
    """The queries of a file, or of a split of a collection with its excluded documents.

    Raises:
        DataError: nothing with that name exists, or a file is malformed.
    """
    from t1_jax.retrieval import load_queries

    if source == str(STANDARD_INPUT) or Path(source).is_file():
        return _with_flaws_logged(load_queries(Path(source), lenient=lenient), out)
    return open_split(source, split, out, lenient=lenient)


def open_split(
    name_or_folder: str,
    split: str,
    out: "Output",
    *,
    lenient: bool,
    needs_documents: bool = True,
) -> "Collection":
    """One split of a collection on this machine; see `t1_jax.retrieval.load_collection`.

    Raises:
        DataError: nothing with that name exists, or a file is malformed.
    """
    from t1_jax.hub import open_collection

    collection = open_collection(
        name_or_folder, split, lenient=lenient, needs_documents=needs_documents
    )
    return _with_flaws_logged(collection, out)


def _with_flaws_logged(collection: "Collection", out: "Output") -> "Collection":
    """The collection, after one line for each kind of flaw that its readers counted."""
    for flaw, count in collection.notes.items():
        out.log(f"{collection.name}: {counted(count, flaw)}")
    return collection
