"""`t1 evaluate`: a model, or a TREC run of any retriever, on collections with qrels."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli import options
from t1_jax.cli.options import config_argument
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.evaluate import Evaluation, EvaluationConfig
    from t1_jax.retrieval import Collection
    from t1_jax.retriever import OpenedModel, RetrieverOptions


def evaluate(
    arguments: Annotated[
        list[str] | None,
        config_argument("A YAML file, and fields to override, as in max_thought_tokens=128."),
    ] = None,
    collections: Annotated[
        list[str] | None,
        typer.Option(
            "--collection", "-c", help="cwe, ruff, or the folder of a collection; can be repeated."
        ),
    ] = None,
    split: options.Split = "test",
    models: Annotated[
        list[str] | None,
        typer.Option(
            "--model",
            "-m",
            help="A T1 or Hugging Face folder, a GGUF file, or a name that `t1 pull` knows; "
            f"several are compared. Default: {options.DEFAULT_MODEL}.",
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            help="Score a run beside BM25 instead of a model: a TREC run, or BRIGHT's score.json. "
            "With --benchmark, {task} stands for the name of each task.",
        ),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="Folder to write, with report.html.")
    ] = None,
    preset: options.Preset = None,
    dtype: options.Dtype = "bfloat16",
    thought_cache: options.UseThoughtCache = True,
    max_query_tokens: options.MaxQueryTokens = None,
    max_document_tokens: options.MaxDocumentTokens = None,
    benchmark: Annotated[
        str | None,
        typer.Option(
            "--benchmark",
            help="bright, bright-long, bright-mteb, bright-mteb-long, nanobeir, or a YAML file.",
            rich_help_panel="Benchmark",
        ),
    ] = None,
    tasks: Annotated[
        list[str] | None,
        typer.Option(
            "--task",
            help="Task of the benchmark; can be repeated. Default: all.",
            rich_help_panel="Benchmark",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            "--data",
            help="Folder with its files. Default: what `t1 pull` downloaded.",
            rich_help_panel="Benchmark",
        ),
    ] = None,
    rewritten: Annotated[
        str | None,
        typer.Option(
            "--rewritten",
            help="Rewritten queries: gpt4_reason and the like, or a JSON file.",
            rich_help_panel="Benchmark",
        ),
    ] = None,
    instructions: Annotated[
        str | None,
        typer.Option(
            "--instructions",
            help="t1 (the model's own), bright-paper, mteb-v1.1, flagembedding, or a YAML file.",
            rich_help_panel="Benchmark",
        ),
    ] = None,
    embeddings: Annotated[
        Path | None,
        typer.Option(
            "--embeddings",
            help="Folder that keeps document embeddings for later evaluations. Default: in OUTPUT.",
            rich_help_panel="Benchmark",
        ),
    ] = None,
    lenient: options.Lenient = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Evaluate a model with its own thought, without a thought, and with control thoughts.

    Prints nDCG@10 and recall@10 with 95 % bootstrap intervals, beside BM25. A query without any
    result counts 0. Several models are compared with the first one, query by query.

    With --benchmark, each task is written when it is finished, and the same command goes on after
    an interruption.

    Example: t1 evaluate --collection ruff max_thought_tokens=128 max_queries=50 --output runs/ruff
    """
    from t1_jax.cli.benchmark import DEFAULT_CONFIG, BenchmarkOptions, evaluate_benchmark
    from t1_jax.cli.inputs import open_split, read_config
    from t1_jax.cli.model import retriever_options
    from t1_jax.evaluate import (
        EvaluationConfig,
        ResultsTable,
        evaluate_run_file,
        results_as_json,
        write_results,
    )
    from t1_jax.files import check_new_folder

    out = Output(as_json)
    of_benchmark = {
        "--task": tasks,
        "--data": data,
        "--rewritten": rewritten,
        "--instructions": instructions,
        "--embeddings": embeddings,
    }
    lengths = retriever_options(max_query_tokens, max_document_tokens)
    if benchmark is not None:
        if collections or len(models or ()) > 1:
            raise ConfigError("a benchmark is evaluated with one model, without --collection")
        if run is not None and (models or instructions or embeddings):
            raise ConfigError(
                "a run is scored without a model",
                hint="leave out --model, --instructions and --embeddings",
            )
        if output is None:
            raise ConfigError("a benchmark needs a folder", hint="add --output runs/bright")
        evaluate_benchmark(
            out,
            BenchmarkOptions(
                benchmark=benchmark,
                tasks=tasks or (),
                data=data,
                rewritten=rewritten,
                instructions=instructions,
                embeddings=embeddings,
                model=(models or [options.DEFAULT_MODEL])[0],
                run=None if run is None else str(run),
                dtype=dtype,
                preset=preset,
                lengths=lengths,
                thought_cache=thought_cache,
                output=output,
                lenient=lenient,
                overwrite=overwrite,
            ),
            read_config(EvaluationConfig, arguments, default=DEFAULT_CONFIG),
        )
        return
    if given := [name for name, value in of_benchmark.items() if value is not None]:
        raise ConfigError(f"{given[0]} belongs to a benchmark", hint="add --benchmark bright")
    if not collections:
        raise ConfigError("no collection was given", hint="add --collection cwe")
    if run is not None and len(collections) > 1:
        raise ConfigError("a run belongs to one collection", hint="give --collection once")
    if output is not None:
        check_new_folder(output, overwrite=overwrite)
    config = read_config(EvaluationConfig, arguments)
    opened = [
        open_split(name, split, out, lenient=lenient, needs_documents=run is None)
        for name in collections
    ]
    if output is not None:
        check_can_be_written(opened, split)
    if run is not None and models:
        raise ConfigError(
            "a run is scored without a model", hint="leave out --model, or compare: t1 compare A B"
        )
    pending = (
        _evaluate_models(
            out,
            models or [options.DEFAULT_MODEL],
            dtype,
            preset,
            lengths,
            opened,
            split,
            config,
            thought_cache=thought_cache,
        )
        if run is None
        else iter([[evaluate_run_file(run, opened[0], split, config)]])
    )
    evaluations: list[Evaluation] = []
    written = False
    for evaluations in pending:
        if output is not None:  # a later collection or model may fail
            write_results(output, evaluations, overwrite=overwrite or written)
            written = True
    out.render(ResultsTable(evaluations))
    if output is not None:
        out.print(f"report: {(output / 'report.html').resolve()}")
    out.result(output=output, **results_as_json(evaluations))


def check_can_be_written(collections: "Sequence[Collection]", split: str) -> None:
    """Checks the names that `write_results` will use, before anything is computed.

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
    """Checks what can be checked without weights, and logs the instruction of each collection.

    Raises:
        ConfigError: an unknown task, prompts and thoughts that do not fit the model, or prompts
            without candidates where the config has some.
        DataError: no query of a collection can be scored.
        UnsupportedError: the index's back end is not installed.
    """
    from t1_jax.evaluate import scorable_queries
    from t1_jax.retrieval import require_backend
    from t1_jax.retriever import instruction_note, query_instruction

    require_backend(config.index)
    model.check_document_prompt()
    for collection in collections:
        scorable = scorable_queries(collection, config)
        instruction = query_instruction(
            model.preset,
            config.task,
            config.instruction,
            collection.task,
            custom='write one: "instruction=TEXT"',
        )
        out.log(f"{collection.name}: {instruction_note(model.preset, instruction)}")
        model.check_queries(
            [query.text for query in scorable.queries],
            instruction=instruction,
            n=config.n,
            max_thought_tokens=config.max_thought_tokens,
            sampling=config.sampling,
            names=[f"query {query.id!r}" for query in scorable.queries],
            candidates=config.candidates,
        )


def _evaluate_models(
    out: Output,
    names: Sequence[str],
    dtype: str,
    preset: str | None,
    lengths: "RetrieverOptions",
    collections: "Sequence[Collection]",
    split: str,
    config: "EvaluationConfig",
    *,
    thought_cache: bool,
) -> "Iterator[list[Evaluation]]":
    """The evaluations so far, one for each collection, after each model and collection."""
    from t1_jax.cli.model import log_cached_thoughts, model_facts
    from t1_jax.evaluate import evaluate_collection
    from t1_jax.retriever import load_model, open_model

    systems = system_names(names)
    opened = [open_model(name, dtype=dtype, preset=preset, options=lengths) for name in names]
    for model in opened:
        check_model(out, model, collections, config)
    evaluations: list[Evaluation] = []
    for name, system, unloaded in zip(names, systems, opened, strict=True):
        model = load_model(out, unloaded, thought_cache=thought_cache)
        facts = model_facts(model, Path(name).name)
        for number, collection in enumerate(collections):
            evaluation = evaluate_collection(
                model,
                collection,
                config,
                facts=facts,
                split=split,
                system=system,
                log=out.log,
                show_progress_bar=True,
            )
            if number < len(evaluations):
                evaluations[number] = evaluations[number].joined_with([evaluation])
            else:
                evaluations.append(evaluation)
            yield list(evaluations)
        log_cached_thoughts(out, model)


def system_names(models: Sequence[str]) -> list[str]:
    """What tables call the models: T1 if there is one, otherwise the ends of their paths.

    Raises:
        ConfigError: a model was given twice.
    """
    if len(models) == 1:
        return ["T1"]
    if repeated := next((name for name in models if models.count(name) > 1), None):
        raise ConfigError(f"the model {repeated} was given twice", hint="give it once")
    parts = [Path(name).parts for name in models]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len({name.lower() for name in names}) == len(names):
            return names
    return list(models)
