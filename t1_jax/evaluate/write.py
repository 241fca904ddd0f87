"""The folder of an evaluation: results.json, rankings, scores per query, thoughts, report."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.evaluate.environment import hardware, package_versions
from t1_jax.evaluate.report import ReportOptions, render_report
from t1_jax.evaluate.results import Evaluation, Row, System
from t1_jax.evaluate.table import comparison_sentences, evaluation_notes, to_markdown
from t1_jax.files import atomic_folder
from t1_jax.retrieval import write_run

FORMAT_VERSION = 2
"""Version of results.json, per_query.jsonl and thoughts.jsonl."""


def write_results(
    folder: Path,
    evaluations: Sequence[Evaluation],
    *,
    report: ReportOptions | None = None,
    overwrite: bool = False,
) -> None:
    """Writes the results of one evaluation for each collection, with the page.

    The folder is written atomically. If rendering the page fails, all other files are there.

    ```
    results.json              means, intervals, comparisons, configs, versions, hashes, machine
    table.md                  the table
    report.html               the page
    <collection>/<row>.trec        rankings, best first
    <collection>/per_query.jsonl   all metrics of all rows, one query per line
    <collection>/thoughts.jsonl    one thought per line
    ```

    Raises:
        DataError: two evaluations with one name, or ids that clash in a TREC file.
        T1Error: the folder exists (without `overwrite`), or the write failed.
    """
    names = folder_names([evaluation.title for evaluation in evaluations])
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        write_json(scratch / "results.json", results_as_json(evaluations))
        (scratch / "table.md").write_text(to_markdown(evaluations), encoding="utf-8")
        for name, evaluation in zip(names, evaluations, strict=True):
            (scratch / name).mkdir()
            write_collection(scratch / name, evaluation)
        failure = write_page(scratch, evaluations, report)
    if failure is not None:
        raise failure


def write_page(
    folder: Path, evaluations: Sequence[Evaluation], report: ReportOptions | None = None
) -> Exception | None:
    """Writes report.html; returns what made it fail, so that the other files can be kept."""
    try:
        page = render_report(evaluations, report)
    except Exception as error:
        return error
    (folder / "report.html").write_text(page, encoding="utf-8")
    return None


def folder_names(titles: Sequence[str]) -> list[str]:
    """The subfolder of each evaluation: its title with unsafe characters replaced.

    Raises:
        DataError: two would share a folder.
    """
    names = [_file_name(title) for title in titles]
    for number, name in enumerate(names):
        if (first := names.index(name)) != number:
            raise DataError(
                f"the collections {titles[first]!r} and {titles[number]!r} would be written to one "
                f"folder, {name}",
                hint="rename the folder of one of them, or evaluate them in two runs",
            )
    return names


def results_as_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """The content of results.json."""
    return {
        "format": FORMAT_VERSION,
        "versions": package_versions(),
        "hardware": hardware(),
        "collections": [_evaluation_as_json(evaluation) for evaluation in evaluations],
    }


def _evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    collection = evaluation.collection
    return {
        "collection": collection.name,
        "split": evaluation.split,
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "skipped_queries": evaluation.skipped_queries,
        "query_ids": list(evaluation.query_ids),
        "qrels": sum(map(len, collection.qrels.values())),
        "data_hash": collection.data_hash,
        "qrels_hash": collection.qrels_hash,
        "metadata": dict(collection.metadata),
        "started": evaluation.started,
        "seconds": evaluation.seconds,
        "bootstrap": {"samples": evaluation.bootstrap_samples, "seed": evaluation.bootstrap_seed},
        "systems": [_system_as_json(system) for system in evaluation.systems],
        "rows": [_row_as_json(evaluation, row) for row in evaluation.rows],
        "comparisons": _comparisons(evaluation),
        "summary": "\n".join(comparison_sentences(evaluation)) or None,
        "notes": list(evaluation_notes(evaluation)),
    }


def _system_as_json(system: System) -> dict[str, Any]:
    values = asdict(system)
    values["model"]["details"] = dict(system.model.details)
    return values


def _row_as_json(evaluation: Evaluation, row: Row) -> dict[str, Any]:
    thinking = row.thinking
    return {
        "name": row.name,
        "label": row.label,
        "system": row.system,
        "control": row.control,
        "oracle": row.oracle,
        "metrics": {
            metric: asdict(interval) for metric, interval in evaluation.intervals[row.name].items()
        },
        "queries": len(evaluation.query_ids),
        "queries_without_result": list(row.missing),
        "unknown_queries": list(row.unknown),
        "seconds": row.seconds,
        "thinking": None if thinking is None else asdict(thinking),
    }


def _comparisons(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Each system's own thought against each of its controls and each baseline."""
    comparisons = []
    for own in (row for row in evaluation.rows if row.control == "own"):
        others = [
            row for row in evaluation.rows if row is not own and row.system in (own.system, None)
        ]
        for other in others:
            for metric in evaluation.metrics:
                difference = evaluation.compare(own, other, metric)
                comparisons.append(
                    {"first": own.name, "second": other.name, "metric": metric} | asdict(difference)
                )
    return comparisons


def write_collection(folder: Path, evaluation: Evaluation, *, runs: bool = True) -> None:
    """Writes rankings, scores per query and thoughts of one collection to an existing folder.

    Rankings, as TREC runs, are left out unless `runs`.
    """
    names = _file_names(row.name for row in evaluation.rows)
    for name, row in zip(names, evaluation.rows, strict=True):
        if runs:
            write_run(row.run, folder / f"{name}.trec", tag=name)
    _write_lines(folder / "per_query.jsonl", _per_query(evaluation))
    _write_lines(folder / "thoughts.jsonl", _thoughts(evaluation))


def _per_query(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for number, query in enumerate(evaluation.collection.queries):
        yield {
            "query_id": query.id,
            "hashes": evaluation.collection.query_hashes(query.id),
            "rows": {
                row.name: {metric: float(values[number]) for metric, values in row.values.items()}
                | {"relevant_ranks": dict(row.relevant_ranks.get(query.id, {}))}
                for row in evaluation.rows
            },
        }


def _thoughts(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for row in evaluation.rows:
        for query_id, thoughts in row.thoughts.items():
            for thought in thoughts:
                yield {"row": row.name, "query_id": query_id} | asdict(thought)


def write_json(path: Path, value: Any) -> None:
    """Writes a value as indented JSON; NaN is an error."""
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _file_names(names: Iterable[str]) -> list[str]:
    """A file name for each row, distinct even on a file system that ignores case."""
    taken: dict[str, str] = {}
    for plain in map(_file_name, names):
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        name = next(
            free for free in itertools.chain([plain], numbered) if free.casefold() not in taken
        )
        taken[name.casefold()] = name
    return list(taken.values())


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"
