"""`t1 evaluate`: a model, or a run of anybody's, on judged collections."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Dtype,
    Lenient,
    Model,
    Overwrite,
    Preset,
    Split,
)
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.evaluate import Evaluation, EvaluationConfig
    from t1_jax.retrieval import Collection
    from t1_jax.retriever import OpenedModel


def evaluate(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE",
            help="Fields of the evaluation, for example max_thought_tokens=128.",
        ),
    ] = None,
    collections: Annotated[
        list[str] | None,
        typer.Option(
            "--collection",
            "-c",
            help="cwe, ruff, or a folder in the BEIR layout; may be given more than once.",
        ),
    ] = None,
    split: Split = "test",
    config: Annotated[
        Path | None, typer.Option("--config", help="A YAML file with fields of the evaluation.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    run: Annotated[
        Path | None,
        typer.Option("--run", help="Score this TREC run instead of a model, beside BM25."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Run folder to write, with report.html.")
    ] = None,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure what a model finds with its own thought, without one, and with control thoughts.

    Prints nDCG@10 and recall@10 with 95 % bootstrap intervals beside BM25. A query without any
    result counts 0.

    Example: t1 evaluate --collection ruff max_thought_tokens=128 max_queries=50 --output runs/ruff
    """
    from t1_jax.cli.inputs import open_split
    from t1_jax.config import load_config
    from t1_jax.evaluate import EvaluationConfig, ResultsTable, results_as_json, write_results
    from t1_jax.files import check_new_folder

    out = Output(as_json)
    if not collections:
        raise ConfigError("no collection was given", hint="add --collection cwe")
    if run is not None and len(collections) > 1:
        raise ConfigError("a run belongs to one collection", hint="give --collection once")
    if output is not None:
        check_new_folder(output, overwrite=overwrite)
    resolved = load_config(EvaluationConfig, config, settings or ())
    opened = [open_split(each, split, out, lenient=lenient) for each in collections]
    if output is not None:
        check_can_be_written(opened, split)
    found: list[Evaluation] = []
    each_evaluation = (
        _evaluated(out, model, dtype, preset, opened, split, resolved)
        if run is None
        else _scored(run, opened, split, resolved)
    )
    for evaluation in each_evaluation:
        found.append(evaluation)
        if output is not None:  # a later collection may fail
            write_results(output, found, overwrite=overwrite or len(found) > 1)
    out.show(ResultsTable(found))
    if output is not None:
        out.say(f"report: {(output / 'report.html').resolve()}")
    out.result({"output": output, **results_as_json(found)})


def check_can_be_written(collections: "Sequence[Collection]", split: str) -> None:
    """Refuses what `write_results` would refuse for its names, before anything is computed.

    Raises:
        DataError: two collections would share a folder, or two ids become one in a TREC file.
    """
    from t1_jax.evaluate import folder_names
    from t1_jax.retrieval import trec_ids

    folder_names([f"{collection.name}/{split}" for collection in collections])
    for collection in collections:
        trec_ids(query.id for query in collection.queries)
        trec_ids(document.id for document in collection.documents)


def check_model(
    out: Output,
    model: "OpenedModel",
    collections: "Sequence[Collection]",
    config: "EvaluationConfig",
) -> None:
    """Refuses what an evaluation would stumble over after hours; tells which instructions it uses.

    Raises:
        ConfigError: an unknown task, or prompts and thoughts that do not fit the model.
        DataError: a collection none of whose queries can be scored.
        UnsupportedError: the index's back end is not installed.
    """
    from t1_jax.cli.model import instruction_note, query_instruction
    from t1_jax.evaluate import scorable_queries
    from t1_jax.retrieval import require_backend

    require_backend(config.index)
    own = 'write one: "instruction=TEXT"'
    model.check_document_prompt()
    for collection in collections:
        scorable = scorable_queries(collection, config)
        chosen = query_instruction(
            model.preset, config.task, config.instruction, collection.task, otherwise=own
        )
        out.note(f"{collection.name}: {instruction_note(model.preset, chosen)}")
        model.check_queries(
            [query.text for query in scorable.queries],
            instruction=chosen,
            n=config.n,
            max_thought_tokens=config.max_thought_tokens,
            names=[f"query {query.id!r}" for query in scorable.queries],
        )


def _evaluated(
    out: Output,
    name: str,
    dtype: str,
    preset: str | None,
    collections: "Sequence[Collection]",
    split: str,
    config: "EvaluationConfig",
) -> "Iterator[Evaluation]":
    from t1_jax.cli.embedding_cache import RememberedDocuments
    from t1_jax.cli.eta import evaluate_all
    from t1_jax.cli.model import model_facts
    from t1_jax.retriever import open_model

    opened = open_model(name, dtype=dtype, preset=preset)
    check_model(out, opened, collections, config)
    model = opened.load()
    facts = model_facts(model, Path(name).name)
    remembered = RememberedDocuments(model, None)
    yield from evaluate_all(remembered, facts, collections, split, config, out.note)


def _scored(
    path: Path, collections: "Sequence[Collection]", split: str, config: "EvaluationConfig"
) -> "Iterator[Evaluation]":
    """The run's row beside BM25's."""
    from t1_jax.cli.score import score_run_file

    for collection in collections:
        yield score_run_file(path, collection, split, config)
