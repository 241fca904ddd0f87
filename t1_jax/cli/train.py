"""`t1 train`: one stage, or the whole curriculum, from a config or from a file of pairs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli import options
from t1_jax.cli.options import AsJson, config_argument
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.train import TrainResult
    from t1_jax.train.data import Pairs

UNFINISHED = 75
"""Exit code of a run that stopped early and was saved: EX_TEMPFAIL of sysexits.h, retry later."""


def train(
    arguments: Annotated[
        list[str] | None,
        config_argument(
            "A YAML file (see configs/), and fields to override, as in stages.s3.steps=50."
        ),
    ] = None,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            "--data",
            help="JSONL, CSV, TSV or Parquet file of queries and passages, also in the formats of "
            "sentence-transformers, Tevatron and FlagEmbedding; can be repeated. Or the folder of "
            "a collection, of which the split train is read.",
        ),
    ] = None,
    corpus: Annotated[
        Path | None,
        typer.Option(
            "--corpus", help="With --data: documents, JSONL with _id and text, that it names."
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model", "-m", help=f"With --data: the model. Default: {options.DEFAULT_MODEL}."
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", min=1, help="With --data: minutes of training. Default: 30."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="With --data: folder. Default: runs/NAME-OF-FILE."),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            "--endpoint",
            help="With --data: an OpenAI-compatible endpoint that writes missing thoughts, as "
            "http://HOST:PORT/v1. Default: thoughts from a template.",
        ),
    ] = None,
    teacher: Annotated[
        str | None, typer.Option("--teacher", help="With --endpoint: name of the model there.")
    ] = None,
    no_validation: Annotated[
        bool,
        typer.Option("--no-validation", help="With --data: train on all queries, hold none out."),
    ] = False,
    plan: Annotated[
        bool, typer.Option("--plan", help="With --data: print what would be done, and stop.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="With --data: replace an earlier run.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Train T1: reasoning cold start, joint SFT and contrastive training, GRPO.

    With --data it holds out queries without leaks, writes the thoughts that are missing, chooses a
    recipe for the model and this machine, says how long it takes, trains, and compares the model
    with the one before.

    A run stopped by Ctrl-C, SIGTERM or max_minutes saves its state and ends with exit code 75. The
    same command resumes it. The same holds after a full disk or an error in a custom reward.
    Nothing is downloaded: `t1 pull` the model and the collections first.

    Example: t1 train --data pairs.jsonl --minutes 20

    Example: t1 train configs/experiment/t1.yaml output=runs/mine run=[s1,s2]
    """
    from t1_jax.cli.inputs import read_config
    from t1_jax.parallel import multi_host_job
    from t1_jax.train import TrainConfig
    from t1_jax.train import train as run

    out = Output(as_json)
    if data:
        _train_on_pairs(
            out,
            arguments or [],
            data,
            corpus,
            model,
            minutes or _MINUTES,
            output,
            endpoint=endpoint,
            teacher=teacher,
            held_out=not no_validation,
            plan_only=plan,
            overwrite=overwrite,
        )
        return
    for name, value in (
        ("--corpus", corpus),
        ("--model", model),
        ("--minutes", minutes),
        ("--output", output),
        ("--endpoint", endpoint),
        ("--teacher", teacher),
        ("--no-validation", no_validation),
        ("--plan", plan),
        ("--overwrite", overwrite),
    ):
        if value:
            raise ConfigError(
                f"{name} needs --data", hint=_HINTS.get(name, "give --data pairs.jsonl too")
            )
    if not arguments:
        raise ConfigError("neither data nor a config was given", hint="t1 train --data pairs.jsonl")
    config = read_config(TrainConfig, arguments)
    with multi_host_job():
        result = run(config, log=out.log, show_progress=not as_json)
    if _is_first_process():
        _print_result(out, result)
    if result.stopped is not None:
        raise typer.Exit(UNFINISHED)


_MINUTES = 30.0
_HINTS = {
    "--model": "for a config write model.path=NAME",
    "--output": "for a config write output=FOLDER",
    "--overwrite": "for a config write overwrite=true",
    "--no-validation": "for a config write validation=null",
}


def _train_on_pairs(
    out: Output,
    arguments: list[str],
    data: list[Path],
    corpus: Path | None,
    model: str | None,
    minutes: float,
    output: Path | None,
    *,
    endpoint: str | None,
    teacher: str | None,
    held_out: bool,
    plan_only: bool,
    overwrite: bool,
) -> None:
    import jax

    from t1_jax.cli.inputs import import_beside, open_documents, split_arguments
    from t1_jax.cli.train_pairs import PairsRun, print_result, train_on_pairs
    from t1_jax.parallel import start_multi_host
    from t1_jax.train.data import read_pairs

    if (endpoint is None) != (teacher is None):
        raise ConfigError(
            "--endpoint and --teacher belong together: the address and the name of a model",
            hint="add both, --endpoint http://HOST:PORT/v1 --teacher NAME, or neither",
        )
    start_multi_host()
    if jax.process_count() > 1:
        raise UnsupportedError(
            "--data prepares its files in one process",
            hint="run it on one host with T1_MULTI_HOST=0, stop it, and run the recipe that it "
            "writes on all hosts: t1 train runs/NAME/recipe.yaml",
        )
    recipe, fields = split_arguments(arguments)
    import_beside(recipe)
    if any(path.is_dir() for path in data):
        pairs = _pairs_of_folder(out, data, corpus)
    else:
        documents = ()
        if corpus is not None:
            documents = open_documents(str(corpus), out, lenient=False).documents
        pairs = read_pairs(data, documents)
    name = data[0].resolve().name.split(".")[0]
    run = PairsRun(
        name=name,
        folder=output or Path("runs") / name,
        model=model,
        minutes=minutes,
        held_out=held_out,
        endpoint=endpoint,
        teacher=teacher,
        recipe=recipe,
        fields=fields,
        plan_only=plan_only,
        overwrite=overwrite,
    )
    result = train_on_pairs(out, pairs, run)
    if result.trained is not None and result.trained.stopped is not None:
        print_stopped(out, result.trained)
    print_result(out, run, result)


def _pairs_of_folder(out: Output, data: list[Path], corpus: Path | None) -> "Pairs":
    """The split train of a collection, without queries of its other splits."""
    from t1_jax.cli.training_records import load_training_set
    from t1_jax.train.data import Pairs

    if len(data) > 1 or corpus is not None:
        raise ConfigError(
            "the folder of a collection is training data by itself",
            hint="leave out the other files and --corpus",
        )
    loaded = load_training_set(out, str(data[0]), "train", None, lenient=False)
    return Pairs(documents=tuple(loaded.documents.values()), records=loaded.records, notes={})


def _is_first_process() -> bool:
    import jax

    return jax.process_index() == 0


def print_stopped(out: Output, result: "TrainResult") -> None:
    """Prints why a run stopped, and ends the command with `UNFINISHED`."""
    _print_result(out, result)
    raise typer.Exit(UNFINISHED)


def _print_result(out: Output, result: "TrainResult") -> None:
    if result.stopped is not None:
        out.warn(f"stopped after {counted(result.steps, 'steps')}: {result.stopped}")
        out.print("run the same command to resume")
    else:
        steps = counted(result.steps, "steps")
        out.print(f"{steps} done; weights of each stage: {result.folder / 'stages'}")
    best = None
    if result.best is not None:
        value, step = result.best
        best = {"ndcg@10": value, "step": step}
        out.print(f"best validation nDCG@10 {value:.4f} at step {step}: {result.folder / 'best'}")
    out.result(
        output=result.folder,
        steps=result.steps,
        stopped=result.stopped,
        best=best,
        validations={name: dict(values) for name, values in result.validations.items()},
    )
