"""`t1 evaluate`: a model, or a run of anybody's, on judged collections."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import DEFAULT_MODEL, AsJson, Dtype, Model, Overwrite, Preset, Split
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.evaluate import Evaluation, EvaluationConfig


def evaluate(
    settings: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="KEY=VALUE", help="Fields of the evaluation, for example budget=128."
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
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Measure what a model finds with its own thought, without one, and with control thoughts.

    Prints nDCG@10 and recall@10 with 95 % bootstrap intervals beside BM25. A query without any
    result counts 0.

    Example: t1 evaluate --collection ruff budget=128 max_queries=50 --output runs/ruff
    """
    from t1_jax.cli.model import refuse_taken
    from t1_jax.config import load_config
    from t1_jax.evaluate import EvaluationConfig, ResultsTable, results_as_json, write_results

    out = Output(as_json)
    if not collections:
        raise ConfigError("no collection was given", mend="add --collection cwe")
    if output is not None:
        refuse_taken(output, overwrite)
    settled = load_config(EvaluationConfig, config, settings or ())
    if run is not None:
        evaluations = [_score_run(run, collections, split, settled)]
    else:
        evaluations = _evaluate_model(out, model, dtype, preset, collections, split, settled)
    if output is not None:
        write_results(output, evaluations, overwrite=overwrite)
    out.show(ResultsTable(evaluations))
    if output is not None:
        out.say(f"report: {(output / 'report.html').resolve()}")
    out.result({"output": output, **results_as_json(evaluations)})


def _evaluate_model(
    out: Output,
    name: str,
    dtype: str,
    preset: str | None,
    collections: Sequence[str],
    split: str,
    config: "EvaluationConfig",
) -> "list[Evaluation]":
    from t1_jax.cli.countdown import evaluate_all
    from t1_jax.cli.documents import RememberedDocuments
    from t1_jax.cli.model import model_facts
    from t1_jax.hub import open_collection
    from t1_jax.retriever import T1

    opened = [open_collection(each, split) for each in collections]
    model = T1.load(name, dtype=dtype, preset=preset)
    facts = model_facts(model, Path(name).name)
    return evaluate_all(RememberedDocuments(model, None), facts, opened, split, config, out.note)


def _score_run(
    path: Path, collections: Sequence[str], split: str, config: "EvaluationConfig"
) -> "Evaluation":
    """The run's row beside BM25's."""
    from t1_jax.cli.score import score_run_file
    from t1_jax.hub import open_collection

    if len(collections) > 1:
        raise ConfigError("a run belongs to one collection", mend="give --collection once")
    return score_run_file(path, open_collection(collections[0], split), split, config)
