"""Measures the systems of the plan on collections with qrels, one small file per measurement.

    python -m benchmarks.experiment.measure [KEY=VALUE ...]

Results of the same weights and settings are not measured again, and systems that are not trained
yet are skipped. `split=validation` does not use the test split, and
`max_queries=10 results=runs/look` is a quick look.
"""

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import jax

from benchmarks.experiment.plan import PLAN, Plan, SystemConfig, load_plan
from benchmarks.experiment.results import (
    METRICS,
    Provenance,
    Result,
    RowScores,
    file_of,
    is_current,
    write_result,
)
from benchmarks.experiment.runs import (
    find_weights,
    fingerprint,
    run_of,
    training_tokens,
    validation_curve,
)
from benchmarks.experiment.tasks import Task, settings_of, tasks_of
from benchmarks.experiment.timing import seconds_of
from t1_jax.cli.embedding_cache import CachedDocumentEncoder
from t1_jax.cli.model import model_facts
from t1_jax.cli.output import print_error
from t1_jax.errors import T1Error
from t1_jax.evaluate import (
    Evaluation,
    EvaluationConfig,
    Row,
    evaluate_baselines,
    evaluate_collection,
    evaluate_run_file,
    hardware,
    package_versions,
)
from t1_jax.files import sha256_of, write_atomically
from t1_jax.generate import BatchShapes
from t1_jax.hub import cache_folder, open_collection
from t1_jax.retrieval import Collection
from t1_jax.retriever import T1, RetrieverOptions

Log = Callable[[str], None]

_EXAMPLES = 8
"""Number of queries whose thoughts are stored."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the measurements; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="fields of the plan")
    parser.add_argument("--plan", type=Path, default=PLAN)
    options = parser.parse_args(arguments)
    try:
        plan = load_plan(options.plan, tuple(options.settings))
        if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
            jax.config.update("jax_compilation_cache_dir", str(cache_folder() / "xla"))
        measure(plan, _log)
    except T1Error as error:
        print_error(error, as_json=False)
        return 2
    return 0


def measure(plan: Plan, log: Log) -> list[Path]:
    """Measures what the plan names and is not measured yet; returns the files it wrote.

    Raises:
        T1Error: a collection is not there, or a system cannot be loaded.
    """
    collections = [open_collection(name, plan.split) for name in plan.collections]
    written: list[Path] = []
    for name, system in plan.chosen.items():
        measuring = _measure_runs if system.kind in ("run", "bm25") else _measure_models
        written += measuring(plan, name, system, collections, log)
    return written


def _measure_models(
    plan: Plan, name: str, system: SystemConfig, collections: Sequence[Collection], log: Log
) -> Iterator[Path]:
    """Measures a model, which is loaded only if a result is missing."""
    assert system.path is not None
    weights = find_weights(system.path)
    if weights is None:
        log(f"{name}: skipped, there are no finished weights in {system.path}")
        return
    _copy_curve(plan, weights)
    about = Result(
        system=name,
        measurement="",
        collection="",
        split=plan.split,
        provenance=Provenance(settings={}, model=fingerprint(weights), data="", qrels=""),
        training_tokens=training_tokens(weights),
    )
    model: T1 | None = None
    for task in tasks_of(plan, system):
        for collection in collections:
            todo = _with_key(about, task.name, collection, settings_of(plan, task))
            if _is_done(plan, todo, log):
                continue
            if model is None:
                log(f"{name}: loading {weights}")
                model = T1.load(weights, dtype=plan.dtype, options=_retriever_options(plan))
            yield _write(plan, _measured(todo, model, task, plan, system, collection), log)


def _measure_runs(
    plan: Plan, name: str, system: SystemConfig, collections: Sequence[Collection], log: Log
) -> Iterator[Path]:
    """Scores run files, or BM25."""
    config = EvaluationConfig(
        bm25=system.kind == "bm25", metrics=METRICS, max_queries=plan.max_queries
    )
    for collection in collections:
        file: Path | None = None
        provenance = f"bm25s {package_versions().get('bm25s')}"
        if system.path is not None and system.kind == "run":
            suffix = "" if plan.split == "test" else f"-{plan.split}"
            file = system.path / f"{Path(collection.name).name}{suffix}.trec"
            if not file.is_file():
                log(f"{name}: skipped on {collection.name}, there is no {file}")
                continue
            provenance = sha256_of(file)
        about = Result(
            system=name,
            measurement="",
            collection="",
            split=plan.split,
            provenance=Provenance(settings={}, model=provenance, data="", qrels=""),
        )
        settings = {"top_k": config.top_k, "max_queries": plan.max_queries}
        todo = _with_key(about, "controls", collection, settings)
        if _is_done(plan, todo, log):
            continue
        if file is None:
            evaluation = evaluate_baselines([], collection, config, split=plan.split)
        else:
            evaluation = evaluate_run_file(file, collection, plan.split, config)
        rows = {"run": _row_scores(evaluation, evaluation.rows[0])}
        query_ids = list(evaluation.query_ids)
        todo = replace(todo, query_ids=query_ids, rows=rows, facts=_facts())
        yield _write(plan, todo, log)


def _with_key(about: Result, task: str, collection: Collection, settings: Any) -> Result:
    provenance = replace(
        about.provenance,
        settings=settings,
        data=collection.data_hash,
        qrels=collection.qrels_hash,
    )
    return replace(about, measurement=task, collection=collection.name, provenance=provenance)


def _is_done(plan: Plan, todo: Result, log: Log) -> bool:
    file = file_of(plan.results, todo.system, todo.measurement, todo.collection, todo.split)
    there = not plan.remeasure and is_current(file, todo.provenance)
    status = "done" if there else "measuring"
    log(f"{todo.system}: {todo.measurement} on {todo.collection}/{todo.split}: {status}")
    return there


def _measured(
    todo: Result,
    model: T1,
    task: Task,
    plan: Plan,
    system: SystemConfig,
    collection: Collection,
) -> Result:
    facts = model_facts(model, todo.system)
    if task.config is None:
        seconds = seconds_of(model, collection, plan, thinks=system.kind == "t1")
        return replace(todo, seconds=seconds, facts=_facts() | {"model": dict(facts.details)})
    evaluation = evaluate_collection(
        CachedDocumentEncoder(model, plan.vectors),
        collection,
        task.config,
        facts=facts,
        split=plan.split,
        show_progress_bar=True,
    )
    rows = {}
    for row in evaluation.rows:
        name = (row.control or row.name) if task.name == "controls" else task.name
        rows[name] = _row_scores(evaluation, row)
    return replace(
        todo,
        query_ids=list(evaluation.query_ids),
        rows=rows,
        facts=_facts() | {"model": dict(facts.details)},
    )


def _row_scores(evaluation: Evaluation, row: Row) -> RowScores:
    thinking = row.thinking
    examples = [
        {"query_id": query.id, "query": query.text, "thought": row.thoughts[query.id][0].text}
        for query in evaluation.collection.queries[:_EXAMPLES]
        if thinking is not None and row.thoughts.get(query.id)
    ]
    return RowScores(
        values={metric: row.values[metric].tolist() for metric in METRICS},
        mean_tokens=None if thinking is None else thinking.mean_tokens,
        truncated_frac=None if thinking is None else thinking.truncated_frac,
        examples=examples,
    )


def _write(plan: Plan, result: Result, log: Log) -> Path:
    for name, row in result.rows.items():
        values = row.values[METRICS[0]]
        log(f"  {name}: {METRICS[0]} {sum(values) / len(values):.4f}")
    for name, seconds in result.seconds.items():
        log(f"  {name}: {seconds:.4f} s")
    return write_result(plan.results, result)


def _copy_curve(plan: Plan, weights: Path) -> None:
    """Copies the validation curve, as run folders are not in the repository."""
    run = run_of(weights)
    curve = None if run is None else validation_curve(run)
    if run is not None and curve is not None:
        text = json.dumps(curve, ensure_ascii=False)
        write_atomically(plan.results / "curves" / f"{run.name}.json", text + "\n")


def _retriever_options(plan: Plan) -> RetrieverOptions:
    return RetrieverOptions(
        max_query_tokens=plan.query_tokens,
        max_document_tokens=plan.document_tokens,
        shapes=BatchShapes(max_rows=plan.max_rows),
    )


def _facts() -> dict[str, Any]:
    return {
        "measured": datetime.now(UTC).isoformat(timespec="seconds"),
        "load": round(os.getloadavg()[0], 2),
        "hardware": hardware(),
        "versions": package_versions(),
    }


def _log(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
