"""The folder of a run: results.json, rankings, values per query, thoughts, table and report."""

import itertools
import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.evaluate.environment import hardware, package_versions
from t1_jax.evaluate.notes import evaluation_notes
from t1_jax.evaluate.report import ReportOptions, render_report
from t1_jax.evaluate.results import Evaluation, Row, System
from t1_jax.evaluate.table import comparison_sentence, to_markdown
from t1_jax.files import atomic_folder, write_atomically
from t1_jax.retrieval import write_run

FORMAT_VERSION = 1
"""Of results.json and its neighbors."""


def write_results(
    folder: Path,
    evaluations: Sequence[Evaluation],
    *,
    report: ReportOptions | None = None,
    overwrite: bool = False,
) -> None:
    """Writes everything an evaluation found, and then the page.

    The folder appears whole or not at all; should the page fail, all else is there.

    ```
    results.json              means, intervals, comparisons, configs, versions, hashes, machine
    table.md                  the table
    report.html               the page
    <collection>/<row>.trec        rankings, best first
    <collection>/per_query.jsonl   every measure of every row, a query a line
    <collection>/thoughts.jsonl    every thought, a line each
    ```

    Args:
        folder: becomes the run folder.
        evaluations: one a collection.
        report: what the page shows.
        overwrite: replace a folder that stands there.

    Raises:
        DataError: two evaluations of one name, or ids that a TREC file cannot hold apart.
        T1Error: the folder exists (without `overwrite`), or the disk refuses.
    """
    names = folder_names([evaluation.title for evaluation in evaluations])
    with atomic_folder(Path(folder), overwrite=overwrite) as scratch:
        _write_json(scratch / "results.json", results_as_json(evaluations))
        (scratch / "table.md").write_text(to_markdown(evaluations), encoding="utf-8")
        for name, evaluation in zip(names, evaluations, strict=True):
            _write_collection(scratch / name, evaluation)
    write_atomically(Path(folder) / "report.html", render_report(evaluations, report))


def folder_names(titles: Sequence[str]) -> list[str]:
    """The subfolder of each evaluation: its title, with what file names should not have replaced.

    Raises:
        DataError: two would share a folder.
    """
    names = [_file_name(title) for title in titles]
    for place, name in enumerate(names):
        if (first := names.index(name)) != place:
            raise DataError(
                f"the collections {titles[first]!r} and {titles[place]!r} would be written to one "
                f"folder, {name}",
                hint="rename the folder of one of them, or evaluate them in two runs",
            )
    return names


def results_as_json(evaluations: Sequence[Evaluation]) -> dict[str, Any]:
    """What results.json holds, as JSON values."""
    return {
        "format": FORMAT_VERSION,
        "versions": package_versions(),
        "hardware": hardware(),
        "collections": [_evaluation_as_json(evaluation) for evaluation in evaluations],
    }


def _evaluation_as_json(evaluation: Evaluation) -> dict[str, Any]:
    collection = evaluation.collection
    sentence = comparison_sentence(evaluation)
    return {
        "collection": collection.name,
        "split": evaluation.split,
        "documents": len(collection.documents),
        "queries": len(collection.queries),
        "queries_left_out": evaluation.excluded_rows,
        "query_ids": list(evaluation.query_ids),
        "qrels": sum(map(len, collection.qrels.values())),
        "data_hash": collection.data_hash,
        "qrels_hash": collection.qrels_hash,
        "metadata": dict(collection.metadata),
        "started": evaluation.started,
        "seconds": evaluation.seconds,
        "bootstrap": {
            "samples": evaluation.bootstrap_samples,
            "seed": evaluation.bootstrap_seed,
        },
        "systems": [_system_as_json(system) for system in evaluation.systems],
        "rows": [_row_as_json(evaluation, row) for row in evaluation.rows],
        "comparisons": _comparisons(evaluation),
        "summary": sentence,
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
            measure: asdict(interval)
            for measure, interval in evaluation.intervals[row.name].items()
        },
        "queries": len(evaluation.query_ids),
        "queries_without_result": list(row.missing),
        "unknown_queries": list(row.unknown),
        "seconds": row.seconds,
        "thinking": None if thinking is None else asdict(thinking),
    }


def _comparisons(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Every system's own thought against each of its controls and each baseline."""
    found = []
    for own in (row for row in evaluation.rows if row.control == "own"):
        others = [
            row for row in evaluation.rows if row is not own and row.system in (own.system, None)
        ]
        for other in others:
            for measure in evaluation.metrics:
                difference = evaluation.compare(own, other, measure)
                found.append(
                    {"first": own.name, "second": other.name, "measure": measure}
                    | asdict(difference)
                )
    return found


def _write_collection(folder: Path, evaluation: Evaluation) -> None:
    folder.mkdir()
    for name, row in zip(
        _file_names(row.name for row in evaluation.rows), evaluation.rows, strict=True
    ):
        write_run(row.run, folder / f"{name}.trec", tag=name)
    _write_lines(folder / "per_query.jsonl", _per_query(evaluation))
    _write_lines(folder / "thoughts.jsonl", _thoughts(evaluation))


def _per_query(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for place, query in enumerate(evaluation.collection.queries):
        yield {
            "query_id": query.id,
            "rows": {
                row.name: {measure: float(values[place]) for measure, values in row.values.items()}
                | {"judged_ranks": dict(row.judged_ranks.get(query.id, {}))}
                for row in evaluation.rows
            },
        }


def _thoughts(evaluation: Evaluation) -> Iterable[dict[str, Any]]:
    for row in evaluation.rows:
        for query_id, thoughts in row.thoughts.items():
            for thought in thoughts:
                yield {"row": row.name, "query_id": query_id} | asdict(thought)


def _write_json(path: Path, value: Any) -> None:
    text = json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False)
    path.write_text(text + "\n", encoding="utf-8")


def _write_lines(path: Path, values: Iterable[dict[str, Any]]) -> None:
    with path.open("w", encoding="utf-8") as file:
        for value in values:
            file.write(json.dumps(value, ensure_ascii=False, allow_nan=False) + "\n")


def _file_names(names: Iterable[str]) -> list[str]:
    """A file name for each row, all different, even where the file system ignores case."""
    found: dict[str, str] = {}
    for plain in map(_file_name, names):
        numbered = (f"{plain}-{number}" for number in itertools.count(2))
        name = next(
            each for each in itertools.chain([plain], numbered) if each.casefold() not in found
        )
        found[name.casefold()] = name
    return list(found.values())


def _file_name(name: str) -> str:
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "unnamed"
