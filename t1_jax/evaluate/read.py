"""Reads the scores of a row back from the folder that `write_results` wrote."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from shlex import quote
from typing import Any

import numpy as np

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate.compare import CollectionScores, ScoredRun
from t1_jax.evaluate.write import FORMAT_VERSION, folder_names
from t1_jax.files import read_text


def read_scored_run(folder: Path, row: str | None = None, *, name: str | None = None) -> ScoredRun:
    """The scores of a row; by default of the first model with its own thought, or the last row.

    `name` is how tables call the run; by default folder and row.

    Raises:
        DataError: the folder is not one of an evaluation, or a file is damaged.
        ConfigError: there is no such row.
    """
    folder = Path(folder)
    results = read_results(folder)
    try:
        collections = results["collections"]
        titles = [
            f"{one['collection']}/{one['split']}" if one["split"] else one["collection"]
            for one in collections
        ]
        chosen = row or _default_row(collections[0]["rows"])
        scores = {
            title: _read_scores(folder / subfolder, one, chosen)
            for title, subfolder, one in zip(titles, folder_names(titles), collections, strict=True)
        }
        settings = _settings(results, collections[0], chosen)
        oracle = any(_row(one, chosen)["oracle"] for one in collections)
        recall = min(_index_recall(one, chosen) for one in collections)
    except (KeyError, IndexError, TypeError) as error:
        raise DataError(
            f"{folder} is damaged: {error!r} is missing from its results",
            hint="evaluate again with --output",
        ) from error
    return ScoredRun(
        name=name or f"{folder.name}, {chosen}",
        collections=scores,
        settings=settings,
        oracle=oracle,
        index_recall=recall,
    )


def read_results(folder: Path) -> dict[str, Any]:
    """The content of results.json in the folder of an evaluation.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    path = folder / "results.json"
    if not path.is_file():
        raise DataError(
            f"{folder} is not the folder of an evaluation: it has no results.json",
            hint=f"write one: t1 evaluate -c COLLECTION --output {quote(str(folder))}",
        )
    try:
        results = json.loads(read_text(path))
        version = results["format"]
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="evaluate again with --output"
        ) from error
    if version != FORMAT_VERSION:
        raise DataError(
            f"{path} has format {version}; this version of t1_jax reads {FORMAT_VERSION}",
            hint="evaluate again with --output",
        )
    return results


def _default_row(rows: list[dict[str, Any]]) -> str:
    own = [row["name"] for row in rows if row["control"] == "own"]
    return own[0] if own else rows[-1]["name"]


def _read_scores(folder: Path, results: Mapping[str, Any], row: str) -> CollectionScores:
    known = [each["name"] for each in results["rows"]]
    if row not in known:
        raise ConfigError(f"{folder} has no row {row!r}", hint=f"use one of {', '.join(known)}")
    path = folder / "per_query.jsonl"
    try:
        lines = [json.loads(line) for line in read_text(path).splitlines()]
    except ValueError as error:
        raise DataError(
            f"{path} is damaged: {error}", hint="evaluate again with --output"
        ) from error
    metrics = [name for name in lines[0]["rows"][row] if name != "relevant_ranks"]
    return CollectionScores(
        query_ids=tuple(line["query_id"] for line in lines),
        values={m: np.array([line["rows"][row][m] for line in lines], float) for m in metrics},
        data_hash=results["data_hash"],
        qrels_hash=results["qrels_hash"],
        query_hashes={line["query_id"]: line.get("hashes", {}) for line in lines},
        missing=len(_row(results, row)["queries_without_result"]),
    )


def _row(collection: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    (row,) = [each for each in collection["rows"] if each["name"] == name]
    return row


def _index_recall(collection: Mapping[str, Any], row: str) -> float:
    """Recall@10 of the index that a row was searched with; 1 for a baseline."""
    system = _row(collection, row)["system"]
    recalls = [
        each["index_recall_at_10"] for each in collection["systems"] if each["name"] == system
    ]
    return float(recalls[0]) if recalls else 1.0


def _settings(
    results: Mapping[str, Any], collection: Mapping[str, Any], row: str
) -> dict[str, str]:
    """Row, model, config, versions and hardware as flat names with their values."""
    of_row = _row(collection, row)
    systems = [each for each in collection["systems"] if each["name"] == of_row["system"]]
    tree = {
        "row": of_row["label"],
        **({"model": systems[0]["model"], "config": systems[0]["config"]} if systems else {}),
        "versions": results["versions"],
        "hardware": results["hardware"],
    }
    return dict(_flatten(tree))


def _flatten(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value if isinstance(value, str) else json.dumps(value)
