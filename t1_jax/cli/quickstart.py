"""`t1 quickstart`: real weights and real data to one table and one report, with one command."""

import time
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated

from rich.table import Table

from t1_jax.cli.options import AsJson, config_argument
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError, T1Error, WeightsError
from t1_jax.progress import counted, duration_text

if TYPE_CHECKING:
    from t1_jax.cli.quickstart_config import QuickstartConfig
    from t1_jax.evaluate import Encoder, Evaluation
    from t1_jax.retrieval import Collection
    from t1_jax.retriever import T1, OpenedModel
    from t1_jax.train import TrainConfig, TrainResult

_PART_OF_LIMIT = 0.8
"""Of a training's `max_minutes`: what its steps should take."""
_DEFAULT_CONFIG = Path("configs/quickstart.yaml")


def quickstart(
    arguments: Annotated[
        list[str] | None,
        config_argument(
            "A YAML file (default configs/quickstart.yaml), and fields to override, as in "
            "collections=[ruff]."
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model and two collections, train it briefly, think, retrieve, and print the results.

    Writes a folder with rankings, thoughts, metrics and report.html. Downloads about 200 MB into
    the cache, and takes less than twenty minutes on two cores.

    Example: t1 quickstart collections=[ruff] evaluation.max_thought_tokens=128
    """
    from t1_jax.cli.evaluate import check_can_be_written, check_model
    from t1_jax.cli.inputs import read_config
    from t1_jax.cli.model import model_facts
    from t1_jax.cli.quickstart_config import QuickstartConfig
    from t1_jax.config import save_config
    from t1_jax.evaluate import ResultsTable, evaluate_collection, results_as_json, write_results

    start = time.perf_counter()
    out = Output(as_json)
    config = read_config(QuickstartConfig, arguments, default=_DEFAULT_CONFIG)
    _check_output(config.output)
    _check_weights(config.weights)
    training = None if config.training is None else _training_config(config)
    collections = _fetch(out, config)
    check_can_be_written(collections, config.split)
    opened = _open(config, config.weights or _model_name(config))
    check_model(out, opened, collections, config.evaluation)
    trained = None if training is None else _train(out, _fitted(out, training))
    model = _load(out, config, trained)
    facts = model_facts(model, Path(config.weights or config.model).name)
    evaluations: list[Evaluation] = []
    for collection in collections:
        evaluations.append(
            evaluate_collection(
                _encoder(config, model),
                collection,
                config.evaluation,
                facts=facts,
                split=config.split,
                log=out.log,
                show_progress_bar=True,
            )
        )
        write_results(config.output, evaluations, report=config.report, overwrite=True)
        save_config(config, config.output / "config.yaml")
    out.render(ResultsTable(evaluations))
    _print_conclusion(out, config, trained)
    seconds = time.perf_counter() - start
    out.print(f"output: {config.output}   took {duration_text(seconds)}")
    out.result(
        output=config.output,
        report=config.output / "report.html",
        training=trained and {"steps": trained.steps, "validations": trained.validations},
        seconds=seconds,
        **results_as_json(evaluations),
    )


def _check_output(folder: Path) -> None:
    """Raises T1Error for a folder with other content than that of an earlier run."""
    is_run = (folder / "results.json").exists()
    if folder.exists() and not is_run and (folder.is_file() or any(folder.iterdir())):
        raise T1Error(
            f"{folder} exists and does not hold an earlier run, so it is not replaced",
            hint="choose another: output=FOLDER",
        )


def _check_weights(name: str | None) -> None:
    """Raises ConfigError before minutes of training, not after them."""
    from t1_jax.hub import locate_model

    try:
        if name is not None:
            locate_model(name)
    except WeightsError as error:
        raise ConfigError(
            f"weights={name}: {error.message}",
            hint="weights=null evaluates the best weights of the training",
        ) from error


def _training_config(config: "QuickstartConfig") -> "TrainConfig":
    """The config of a training that starts from the quick start's model.

    Raises:
        ConfigError: the file is not a training config.
    """
    from t1_jax.config import load_config
    from t1_jax.train import TrainConfig

    overrides = [f"model.path={_model_name(config)}", "overwrite=true"]
    return load_config(TrainConfig, config.training, overrides)


def _fitted(out: Output, config: "TrainConfig") -> "TrainConfig":
    """The config with fewer steps if this machine is too slow for all of them.

    It measures the machine as it is now, with whatever else runs on it. `max_minutes` of the
    config stays as a limit, in case that changes.
    """
    import dataclasses

    from t1_jax.retriever import open_model
    from t1_jax.train import fitted_steps, measure_speed

    if config.max_minutes is None:
        return config
    shape = open_model(config.model.path).resolved.checkpoint.config
    steps = fitted_steps(
        config, shape, measure_speed(), minutes=_PART_OF_LIMIT * config.max_minutes
    )
    stages = {
        name: dataclasses.replace(stage, steps=steps.get(name, stage.steps))
        for name, stage in config.stages.items()
    }
    planned = ", ".join(f"{name} {steps[name]}" for name in steps)
    if stages != config.stages:
        out.log(f"this machine is slow or busy, so training is shorter: steps {planned}")
    return dataclasses.replace(config, stages=stages)


def _fetch(out: Output, config: "QuickstartConfig") -> "list[Collection]":
    """Downloads what is missing; returns the split of each collection."""
    from t1_jax.cli.inputs import open_split
    from t1_jax.hub import MODELS, pull_collection, pull_model
    from t1_jax.retrieval import datasets

    if config.model in MODELS or config.source == "hub":
        path = pull_model(config.model, source=config.source, revision=config.revision)
        out.log(f"model {config.model}: {path}")
    collections = []
    for name in config.collections:
        if name in datasets.DATASETS:
            pull_collection(name)
        collection = open_split(name, config.split, out, lenient=config.lenient)
        documents = counted(len(collection.documents), "documents")
        queries = counted(len(collection.queries), f"{config.split} queries")
        out.log(f"collection {name}: {documents}, {queries}")
        collections.append(collection)
    return collections


def _train(out: Output, config: "TrainConfig") -> "TrainResult":
    """Trains all stages of the config and prints the score after each."""
    from t1_jax.train import train

    out.log("training: all three stages in a few minutes")
    result = train(config, log=out.log)
    out.render(_validation_table(result))
    if result.stopped is not None:
        out.warn(f"training stopped early: {result.stopped}")
    return result


def _validation_table(result: "TrainResult") -> Table:
    """One row for the base model and for each stage, one column for each collection."""
    names = [
        name for name in next(iter(result.validations.values()), {}) if name.endswith("/ndcg@10")
    ]
    table = Table(title="Validation nDCG@10 during training (on a part of each corpus)")
    table.add_column("after")
    for name in names:
        collection = name.removeprefix("validation/").removesuffix("ndcg@10").strip("/")
        table.add_column(collection or "mean", justify="right")
    for stage, metrics in result.validations.items():
        table.add_row(stage, *(f"{metrics[name]:.3f}" for name in names))
    return table


def _load(out: Output, config: "QuickstartConfig", trained: "TrainResult | None") -> "T1":
    """Loads the given weights, else the best of the training, else the model as downloaded."""
    from t1_jax.cli.model import device_summary
    from t1_jax.retriever import load_model

    weights: str | Path = _model_name(config)
    if config.weights is not None:
        weights = config.weights
    elif trained is not None and trained.best is not None:
        weights = trained.folder / "best"
    model = load_model(out, _open(config, weights))
    out.log(f"loaded in {config.dtype} on {device_summary(model)}; each batch shape compiles once")
    return model


def _open(config: "QuickstartConfig", weights: str | Path) -> "OpenedModel":
    from t1_jax.retriever import open_model

    return open_model(weights, dtype=config.dtype, preset=config.preset, options=config.retriever)


def _encoder(config: "QuickstartConfig", model: "T1") -> "Encoder":
    from t1_jax.cli.embedding_cache import CachedDocumentEncoder
    from t1_jax.hub import cache_folder

    if not config.cache_embeddings:
        return model
    return CachedDocumentEncoder(model, cache_folder() / "vectors")


def _model_name(config: "QuickstartConfig") -> str:
    """The name under which the model is opened after it was downloaded."""
    from t1_jax.hub import MODELS

    if config.source == "hub" and config.model in MODELS:
        return MODELS[config.model].hub_repo
    return config.model


def _print_conclusion(
    out: Output, config: "QuickstartConfig", trained: "TrainResult | None"
) -> None:
    best = None if trained is None or trained.best is None else trained.folder / "best"
    if config.weights is not None:
        out.warn(f"Evaluated: {config.weights}; its README.md says how it was trained.")
        if best is not None:
            out.warn(
                "To evaluate the weights that were just trained: "
                f"t1 quickstart training=null weights={quote(str(best))}"
            )
    elif trained is not None and best is not None:
        out.warn(f"Evaluated: the result of {trained.steps} short steps on this machine ({best}).")
    out.print(f"report: {(config.output / 'report.html').resolve()}", style="bold")
