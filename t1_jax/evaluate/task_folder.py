"""The folder of a finished task of a benchmark, from which a later run and the table read it."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from t1_jax.errors import DataError, T1Error
from t1_jax.evaluate.environment import hardware, package_versions
from t1_jax.evaluate.formats import bright_results, mteb_task_result
from t1_jax.evaluate.results import Evaluation, Row
from t1_jax.evaluate.table import evaluation_notes
from t1_jax.evaluate.write import (
    results_as_json,
    write_collection,
    write_json,
    write_page,
)
from t1_jax.files import atomic_folder, read_text
from t1_jax.retrieval import trec_ids
from t1_jax.retrieval.benchmarks import Benchmark

FORMAT_VERSION = 1
"""Version of the manifest of a task."""

MANIFEST = "manifest.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class RowScores:
    """One retriever or control on one task.

    Attributes:
        label: name in tables.
        oracle: whether it has seen the answers.
        values: the benchmark's metric of each query.
    """

    label: str
    oracle: bool
    values: Float[np.ndarray, " B"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskScores:
    """A finished task, as its folder has it.

    Attributes:
        task: name of the task.
        rows: name -> scores, in the order of the table.
        queries: number of queries that were scored.
        scorable: number of queries of the split with a relevant document.
        notes: flaws of the data, missing results, truncated texts.
        manifest: settings, data, versions and hardware.
        results: its part of `results.json`.
    """

    task: str
    rows: Mapping[str, RowScores]
    queries: int
    scorable: int
    notes: tuple[str, ...]
    manifest: Mapping[str, Any] = field(repr=False)
    results: Mapping[str, Any] = field(repr=False)

    @property
    def settings(self) -> Mapping[str, Any]:
        """What a later run must have in common to go on."""
        return self.manifest["settings"]

    @property
    def is_complete(self) -> bool:
        """Whether every query of the split was scored."""
        return self.queries == self.scorable


def main_row(evaluation: Evaluation) -> Row:
    """The row that is the result: own thought, else the first of the model, else the last."""
    of_model = [row for row in evaluation.rows if row.system is not None]
    return evaluation.control("own") or (of_model[0] if of_model else evaluation.rows[-1])


def write_task(
    folder: Path,
    evaluation: Evaluation,
    benchmark: Benchmark,
    task: str,
    *,
    settings: Mapping[str, Any],
    scorable: int,
    notes: Sequence[str] = (),
    model_meta: Mapping[str, Any] | None = None,
) -> None:
    """Writes the folder of a finished task atomically; without the page if it cannot be rendered.

    ```
    manifest.json        settings, data, index, versions, hardware
    evaluation.json      means, intervals, comparisons of all rows
    score.json           BRIGHT's: query -> document -> score
    results.json         BRIGHT's: 25 means, only over all queries of the split
    <row>.trec           rankings, best first, unless two ids become equal there
    trec_ids.json        id -> id in TREC files, where spaces are "_"
    per_query.jsonl      all metrics of all rows, one query per line
    thoughts.jsonl       one thought per line
    <task in mteb>.json  mteb's TaskResult, only over all queries of the split
    model_meta.json      mteb's description of the model
    report.html          the page
    ```

    Args:
        folder: the folder; a previous one is replaced.
        evaluation: results on the task.
        benchmark: the benchmark.
        task: name of the task.
        settings: what a later run must have in common to go on; see `differing_settings`.
        scorable: number of queries of the split with a relevant document.
        notes: further lines for the table.
        model_meta: see `mteb_model_meta`.

    Raises:
        T1Error: the write failed.
    """
    row, collection = main_row(evaluation), evaluation.collection
    judged = {"excluded": collection.excluded, "qrels": collection.all_qrels}
    revision = collection.metadata.get("revision", "unknown")
    changed, collision = _trec_ids(evaluation)
    if collision is not None:
        notes = [*notes, f"{evaluation.title}: no TREC runs: {collision}."]
    with atomic_folder(folder, overwrite=True) as scratch:
        write_collection(scratch, evaluation, runs=collision is None)
        if changed and collision is None:
            write_json(scratch / "trec_ids.json", changed)
        write_json(scratch / "evaluation.json", results_as_json([evaluation]))
        write_json(scratch / "score.json", row.run)
        if len(evaluation.query_ids) == scorable:
            write_json(scratch / "results.json", bright_results(row.run, **judged))
            result = mteb_task_result(
                benchmark, task, row.run, **judged, revision=revision, seconds=evaluation.seconds
            )
            if result is not None:
                write_json(scratch / f"{result['task_name']}.json", result)
        if model_meta is not None:
            write_json(scratch / "model_meta.json", dict(model_meta))
        write_json(
            scratch / MANIFEST,
            {
                "format": FORMAT_VERSION,
                "settings": settings,
                "data": {
                    "documents": len(collection.documents),
                    "data_hash": collection.data_hash,
                    "qrels_hash": collection.qrels_hash,
                    **collection.metadata,
                },
                "scorable_queries": scorable,
                "systems": [
                    {
                        "model": asdict(system.model) | {"details": dict(system.model.details)},
                        "distinct_documents": system.distinct_documents,
                        "truncated_documents": system.truncated_documents,
                        "index": {
                            "kind": system.config.index,
                            "recall_at_10": system.index_recall_at_10,
                        },
                    }
                    for system in evaluation.systems
                ],
                "notes": [*evaluation_notes(evaluation), *notes],
                "versions": package_versions(),
                "hardware": hardware(),
                "started": evaluation.started,
                "seconds": evaluation.seconds,
            },
        )
        failure = write_page(scratch, [evaluation])
    if failure is not None:
        raise failure


def _trec_ids(evaluation: Evaluation) -> tuple[dict[str, str], str | None]:
    """The ids of queries and ranked documents that TREC files change, or why there can be none."""
    ranked = {name for row in evaluation.rows for run in row.run.values() for name in run}
    try:
        ids = trec_ids(evaluation.query_ids) | trec_ids(sorted(ranked))
    except DataError as error:
        return {}, error.message
    return {name: written for name, written in ids.items() if name != written}, None


def read_task(folder: Path, task: str, metric: str) -> TaskScores:
    """The scores of a finished task.

    Raises:
        DataError: the folder is not one of a task, or a file is damaged.
    """
    try:
        manifest = json.loads(read_text(folder / MANIFEST))
        if manifest["format"] != FORMAT_VERSION:
            raise DataError(
                f"{folder} has format {manifest['format']}; this version of t1_jax reads "
                f"{FORMAT_VERSION}",
                hint="choose another output folder",
            )
        evaluation = json.loads(read_text(folder / "evaluation.json"))
        (results,) = evaluation["collections"]
        lines = [json.loads(line) for line in read_text(folder / "per_query.jsonl").splitlines()]
        rows = {
            row["name"]: RowScores(
                label=row["label"],
                oracle=row["oracle"],
                values=np.array([line["rows"][row["name"]][metric] for line in lines], np.float64),
            )
            for row in results["rows"]
        }
        return TaskScores(
            task=task,
            rows=rows,
            queries=len(lines),
            scorable=manifest["scorable_queries"],
            notes=tuple(manifest["notes"]),
            manifest=manifest,
            results=results,
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"{folder} is not the folder of a finished task, or is damaged: {error!r}",
            hint="add --overwrite to evaluate the task again, or choose another output folder",
        ) from error


def check_settings(folder: Path, scores: TaskScores, settings: Mapping[str, Any]) -> None:
    """Rejects a finished task that was evaluated with other settings.

    Raises:
        T1Error: names the settings that differ, with both values.
    """
    before, now = dict(_flat(scores.settings)), dict(_flat(settings))
    differing = [
        f"  {name}: {before.get(name, 'none')}, now {now.get(name, 'none')}"
        for name in dict.fromkeys([*before, *now])
        if before.get(name) != now.get(name)
    ]
    if differing:
        raise T1Error(
            f"{folder} was evaluated with other settings\n" + "\n".join(differing),
            hint="use the same settings to go on, add --overwrite to evaluate again, or choose "
            "another output folder",
        )


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Dotted name and JSON of every value."""
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", json.dumps(value, sort_keys=True)
