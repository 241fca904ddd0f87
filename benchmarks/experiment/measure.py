"""Measures the systems of the plan on judged collections, one small file a measurement.

    python -m benchmarks.experiment.measure [KEY=VALUE ...]

What is there already, of the same weights with the same settings, is not measured again, and
systems that are not trained yet are passed over: call it again when there is more.
`split=validation` leaves the test split alone; `max_queries=10 results=runs/look` is a quick look.
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
    MEASURES,
    Measured,
    Provenance,
    RowScores,
    file_of,
    is_current,
    write_measured,
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
from t1_jax.cli.evaluate import evaluate_run_file
from t1_jax.cli.model import model_facts
from t1_jax.cli.output import print_error
from t1_jax.errors import T1Error
from t1_jax.evaluate import (
    Evaluation,
    EvaluationConfig,
    Row,
    evaluate_baselines,
    evaluate_collection,
    hardware,
    package_versions,
)
from t1_jax.files import sha256_of, write_atomically
from t1_jax.generate import BatchShapes
from t1_jax.hub import cache_folder, open_collection
from t1_jax.retrieval import Collection
from t1_jax.retriever import T1, RetrieverOptions

Say = Callable[[str], None]

_EXAMPLES = 8
"""Queries of which the thought is kept."""


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
        measure(plan, _say)
    except T1Error as error:
        print_error(error, as_json=False)
        return 2
    return 0


def measure(plan: Plan, say: Say) -> list[Path]:
    """Measures what the plan names and is not there yet; returns the files it wrote.

    Raises:
        T1Error: a collection is not there, or a system cannot be loaded.
    """
    collections = [open_collection(name, plan.split) for name in plan.collections]
    written: list[Path] = []
    for name, system in plan.chosen.items():
        measuring = _of_files if system.kind in ("run", "bm25") else _of_weights
        written += measuring(plan, name, system, collections, say)
    return written


def _of_weights(
    plan: Plan, name: str, system: SystemConfig, collections: Sequence[Collection], say: Say
) -> Iterator[Path]:
    """Measures a model; it is loaded only if something is missing."""
    assert system.path is not None
    weights = find_weights(system.path)
    if weights is None:
        say(f"{name}: passed over, there are no finished weights in {system.path}")
        return
    _copy_curve(plan, weights)
    about = Measured(
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
            todo = _addressed(about, task.name, collection, settings_of(plan, task))
            if _is_there(plan, todo, say):
                continue
            if model is None:
                say(f"{name}: loading {weights}")
                model = T1.load(weights, dtype=plan.dtype, options=_retriever_options(plan))
            yield _written(plan, _measured(todo, model, task, plan, system, collection), say)


def _of_files(
    plan: Plan, name: str, system: SystemConfig, collections: Sequence[Collection], say: Say
) -> Iterator[Path]:
    """Scores rankings that lie there, or BM25's."""
    config = EvaluationConfig(
        bm25=system.kind == "bm25", metrics=MEASURES, max_queries=plan.max_queries
    )
    for collection in collections:
        file: Path | None = None
        provenance = f"bm25s {package_versions().get('bm25s')}"
        if system.path is not None and system.kind == "run":
            suffix = "" if plan.split == "test" else f"-{plan.split}"
            file = system.path / f"{Path(collection.name).name}{suffix}.trec"
            if not file.is_file():
                say(f"{name}: passed over on {collection.name}, there is no {file}")
                continue
            provenance = sha256_of(file)
        about = Measured(
            system=name,
            measurement="",
            collection="",
            split=plan.split,
            provenance=Provenance(settings={}, model=provenance, data="", qrels=""),
        )
        settings = {"top_k": config.top_k, "max_queries": plan.max_queries}
        todo = _addressed(about, "controls", collection, settings)
        if _is_there(plan, todo, say):
            continue
        if file is None:
            found = evaluate_baselines([], collection, config, split=plan.split)
        else:
            found = evaluate_run_file(file, collection, plan.split, config)
        rows = {"run": _scores(found, found.rows[0])}
        todo = replace(todo, query_ids=list(found.query_ids), rows=rows, facts=_facts())
        yield _written(plan, todo, say)


def _addressed(about: Measured, task: str, collection: Collection, settings: Any) -> Measured:
    provenance = replace(
        about.provenance,
        settings=settings,
        data=collection.data_hash,
        qrels=collection.qrels_hash,
    )
    return replace(about, measurement=task, collection=collection.name, provenance=provenance)


def _is_there(plan: Plan, todo: Measured, say: Say) -> bool:
    file = file_of(plan.results, todo.system, todo.measurement, todo.collection, todo.split)
    there = not plan.again and is_current(file, todo.provenance)
    verb = "is there" if there else "measuring"
    say(f"{todo.system}: {todo.measurement} on {todo.collection}/{todo.split}: {verb}")
    return there


def _measured(
    todo: Measured,
    model: T1,
    task: Task,
    plan: Plan,
    system: SystemConfig,
    collection: Collection,
) -> Measured:
    facts = model_facts(model, todo.system)
    if task.config is None:
        seconds = seconds_of(model, collection, plan, thinks=system.kind == "t1")
        return replace(todo, seconds=seconds, facts=_facts() | {"model": dict(facts.details)})
    found = evaluate_collection(
        CachedDocumentEncoder(model, plan.vectors),
        collection,
        task.config,
        facts=facts,
        split=plan.split,
        show_progress_bar=True,
    )
    rows = {
        (row.control or row.name) if task.name == "controls" else task.name: _scores(found, row)
        for row in found.rows
    }
    return replace(
        todo,
        query_ids=list(found.query_ids),
        rows=rows,
        facts=_facts() | {"model": dict(facts.details)},
    )


def _scores(evaluation: Evaluation, row: Row) -> RowScores:
    thinking = row.thinking
    examples = [
        {"query_id": query.id, "query": query.text, "thought": row.thoughts[query.id][0].text}
        for query in evaluation.collection.queries[:_EXAMPLES]
        if thinking is not None and row.thoughts.get(query.id)
    ]
    return RowScores(
        values={measure: row.values[measure].tolist() for measure in MEASURES},
        mean_tokens=None if thinking is None else thinking.mean_tokens,
        truncated_frac=None if thinking is None else thinking.truncated_frac,
        examples=examples,
    )


def _written(plan: Plan, measured: Measured, say: Say) -> Path:
    for name, row in measured.rows.items():
        values = row.values[MEASURES[0]]
        say(f"  {name}: {MEASURES[0]} {sum(values) / len(values):.4f}")
    for name, seconds in measured.seconds.items():
        say(f"  {name}: {seconds:.4f} s")
    return write_measured(plan.results, measured)


def _copy_curve(plan: Plan, weights: Path) -> None:
    """Keeps how validation went, since run folders are not part of the repository."""
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


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
