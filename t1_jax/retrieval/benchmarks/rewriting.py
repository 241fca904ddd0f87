"""Rewritten queries: folders such as `gpt4_reason` beside BRIGHT's examples, or a JSON file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from t1_jax.errors import ConfigError, DataError
from t1_jax.files import read_text
from t1_jax.retrieval.benchmarks.parquet import parquet_files, parquet_records
from t1_jax.retrieval.collection import Collection, Query, text_error

ORIGINAL = "original"
"""What tables call queries that are not rewritten."""


@dataclass(frozen=True, kw_only=True)
class Rewriting:
    """Other texts for the queries of some tasks.

    Attributes:
        name: what tables call it.
        texts: task -> query id -> text.
    """

    name: str
    texts: Mapping[str, Mapping[str, str]] = field(repr=False)

    def apply(self, task: str, collection: Collection) -> Collection:
        """The collection with rewritten queries.

        Raises:
            DataError: a query has no rewritten text, or one is for an unknown query.
        """
        texts = self.texts[task]
        known = {query.id for query in collection.queries}
        for problem, ids in (
            ("has no text for the query", known - texts.keys()),
            ("has a text for the unknown query", texts.keys() - known),
        ):
            if ids:
                raise DataError(
                    f"the rewriting {self.name} {problem} {min(ids)!r} of {task} "
                    f"({len(ids)} of {len(known)})",
                    hint="give a rewriting of exactly these queries",
                )
        queries = tuple(Query(id=query.id, text=texts[query.id]) for query in collection.queries)
        return replace(collection, queries=queries)


def read_rewriting(name_or_file: str, folder: Path, tasks: Iterable[str]) -> Rewriting:
    """The rewriting in a folder of the data, such as `gpt4_reason`, or in a JSON file.

    A JSON file is a list of objects with `id` and `query`, as BRIGHT's harness reads it for one
    task, or an object with such a list for every task.

    Raises:
        ConfigError: neither a folder of the data nor a file.
        DataError: a file is malformed, or lacks a task.
    """
    path, tasks = Path(name_or_file), list(tasks)
    if path.suffix == ".json":
        return Rewriting(name=path.name, texts=_from_json(path, tasks))
    known = sorted(part.name for part in folder.glob("*_reason") if part.is_dir())
    if name_or_file not in known:
        raise ConfigError(
            f"{folder} has no rewritten queries {name_or_file!r}",
            hint=f"use one of {', '.join(known)}, or a .json file"
            if known
            else "give a .json file with a list of objects with id and query",
        )
    return Rewriting(
        name=name_or_file,
        texts={
            task: {
                record.id("id"): record.text("query")
                for path in parquet_files(
                    folder / name_or_file, task, hint="leave the task out, or get the file"
                )
                for record in parquet_records(path, ["id", "query"])
            }
            for task in tasks
        },
    )


def _from_json(path: Path, tasks: list[str]) -> dict[str, dict[str, str]]:
    try:
        content = json.loads(read_text(path))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path} cannot be read as JSON: {error}") from error
    if isinstance(content, list):
        if len(tasks) != 1:
            raise ConfigError(
                f"{path} has one list of queries, and there are {len(tasks)} tasks",
                hint=f"add --task {tasks[0]}, or write an object with a list for each task",
            )
        content = {tasks[0]: content}
    if not isinstance(content, dict):
        raise DataError(f"{path}: expected a list or an object, found {type(content).__name__}")
    if missing := [task for task in tasks if task not in content]:
        raise DataError(
            f"{path} has no queries of {missing[0]}", hint="add them, or leave the task out"
        )
    return {task: _texts(path, task, content[task]) for task in tasks}


def _texts(path: Path, task: str, entries: Any) -> dict[str, str]:
    texts: dict[str, str] = {}
    if not isinstance(entries, list):
        raise DataError(f"{path}: {task} is not a list")
    for number, entry in enumerate(entries, 1):
        fields = entry if isinstance(entry, dict) else {}
        identifier, text = fields.get("id"), fields.get("query")
        where = f"{path}: entry {number} of {task}"
        if not isinstance(identifier, str) or not isinstance(text, str):
            raise DataError(f"{where} is not an object with the strings id and query")
        if problem := text_error(text):
            raise DataError(f"{where}: {problem}")
        if identifier in texts:
            raise DataError(f"{where}: the id {identifier!r} occurred before")
        texts[identifier] = text
    return texts
