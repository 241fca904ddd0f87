"""`t1 quickstart`: real weights and real data to one table and one page, with one command."""

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output
from t1_jax.cli.quickstart_training import learn, training_config
from t1_jax.errors import ConfigError, T1Error

if TYPE_CHECKING:
    from t1_jax.cli.quickstart_config import QuickstartConfig
    from t1_jax.evaluate import Evaluation
    from t1_jax.retrieval import Collection
    from t1_jax.retriever import T1, OpenedModel
    from t1_jax.train import TrainResult

_DEFAULT_CONFIG = Path("configs/quickstart.yaml")


def quickstart(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="CONFIG KEY=VALUE",
            help="A YAML file (default configs/quickstart.yaml), and fields that differ from it.",
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Fetch a model and judged collections, train it briefly, think, retrieve, print the table.

    Writes a run folder with rankings, thoughts, measures, and report.html to look at. Needs about
    200 MB of downloads, kept in the cache, and under twenty minutes on two cores.

    Example: t1 quickstart collections=[ruff] evaluation.max_thought_tokens=128
    """
    from t1_jax.cli.evaluate import check_can_be_written, check_model
    from t1_jax.cli.quickstart_config import QuickstartConfig
    from t1_jax.config import load_config, save_config
    from t1_jax.evaluate import ResultsTable, results_as_json, write_results

    start = time.perf_counter()
    out = Output(as_json)
    path, overrides = _split(arguments or [])
    config = load_config(QuickstartConfig, path, overrides)
    _check_output(config.output)
    _check_weights(config.weights)
    training = None if config.training is None else training_config(config.training, _name(config))
    collections = _fetch(out, config)
    check_can_be_written(collections, config.split)
    check_model(
        out, _opened(config, config.weights or _name(config)), collections, config.evaluation
    )
    trained = None if training is None else learn(out, training)
    model = _load(out, config, trained)
    evaluations: list[Evaluation] = []
    for evaluation in _evaluate(out, config, model, collections):
        evaluations.append(evaluation)
        write_results(config.output, evaluations, report=config.report, overwrite=True)
        save_config(config, config.output / "config.yaml")
    out.show(ResultsTable(evaluations))
    _conclude(out, config, trained, time.perf_counter() - start)
    out.result(
        {
            "output": config.output,
            "report": config.output / "report.html",
            "training": trained and {"steps": trained.steps, "validations": trained.validations},
            "seconds": time.perf_counter() - start,
            **results_as_json(evaluations),
        }
    )


def _split(arguments: Sequence[str]) -> tuple[Path | None, list[str]]:
    """The config file, if there is one, and the fields that differ from it."""
    files = [argument for argument in arguments if "=" not in argument]
    if len(files) > 1:
        raise ConfigError(
            f"more than one config was given: {', '.join(files)}",
            hint="give one file; write fields as key=value, without spaces",
        )
    if files:
        return Path(files[0]), [argument for argument in arguments if argument != files[0]]
    return (_DEFAULT_CONFIG if _DEFAULT_CONFIG.exists() else None), list(arguments)


def _check_output(folder: Path) -> None:
    """A run folder may be replaced by a later run; anything else may not."""
    is_run = (folder / "results.json").exists()
    if folder.exists() and not is_run and (folder.is_file() or any(folder.iterdir())):
        raise T1Error(
            f"{folder} exists and is not the folder of a run, so it is not replaced",
            hint="choose another: output=FOLDER",
        )


def _check_weights(folder: Path | None) -> None:
    """Said before minutes of training, not after them."""
    if folder is not None and not folder.is_dir():
        raise ConfigError(
            f"weights={folder} is no folder of a model or an adapter",
            hint="weights=null evaluates what the training finds best",
        )


def _fetch(out: Output, config: "QuickstartConfig") -> "list[Collection]":
    """Fetches whatever is not here yet; returns the split of each collection."""
    from t1_jax.cli.inputs import open_split
    from t1_jax.hub import MODELS, pull_collection, pull_model
    from t1_jax.retrieval import datasets

    if config.model in MODELS or config.source == "hub":
        path = pull_model(config.model, source=config.source, revision=config.revision)
        out.note(f"model {config.model}: {path}")
    found = []
    for name in config.collections:
        if name in datasets.DATASETS:
            pull_collection(name)
        collection = open_split(name, config.split, out, lenient=config.lenient)
        out.note(
            f"collection {name}: {len(collection.documents)} documents, "
            f"{len(collection.queries)} {config.split} queries"
        )
        found.append(collection)
    return found


def _load(out: Output, config: "QuickstartConfig", trained: "TrainResult | None") -> "T1":
    from t1_jax.cli.model import devices_in_words

    model = _opened(config, _weights(config, trained)).load()
    out.note(
        f"loaded in {config.dtype} on {devices_in_words(model)}; "
        "each shape of batch is compiled once"
    )
    return model


def _opened(config: "QuickstartConfig", weights: str | Path) -> "OpenedModel":
    from t1_jax.retriever import open_model

    return open_model(weights, dtype=config.dtype, preset=config.preset, options=config.retriever)


def _weights(config: "QuickstartConfig", trained: "TrainResult | None") -> str | Path:
    """Given weights, else the best of the training, else the model as it was fetched."""
    if config.weights is not None:
        return config.weights
    return _name(config) if trained is None or trained.best is None else trained.folder / "best"


def _name(config: "QuickstartConfig") -> str:
    """What the model is called once it has been fetched."""
    from t1_jax.hub import MODELS

    if config.source == "hub" and config.model in MODELS:
        return MODELS[config.model].hub_repo
    return config.model


def _evaluate(
    out: Output, config: "QuickstartConfig", model: "T1", collections: "list[Collection]"
) -> "Iterator[Evaluation]":
    from t1_jax.cli.embedding_cache import RememberedDocuments
    from t1_jax.cli.eta import evaluate_all
    from t1_jax.cli.model import model_facts
    from t1_jax.hub import cache_folder

    folder = cache_folder() / "vectors" if config.remember else None
    remembered = RememberedDocuments(model, folder)
    facts = model_facts(model, Path(config.weights or config.model).name)
    return evaluate_all(remembered, facts, collections, config.split, config.evaluation, out.note)


def _conclude(
    out: Output, config: "QuickstartConfig", trained: "TrainResult | None", seconds: float
) -> None:
    from t1_jax.cli.eta import in_words
    from t1_jax.cli.model import is_base_model

    if config.weights is not None:
        out.say(
            f"These are the weights in {config.weights}; its README.md says how they were trained.",
            style="yellow",
        )
        if trained is not None and trained.best is not None:
            out.say(
                "To evaluate those that were just trained: t1 quickstart training=null "
                f"weights={trained.folder / 'best'}",
                style="yellow",
            )
    elif trained is not None and trained.best is not None:
        out.say(
            f"These are the weights of {trained.steps} short steps on this machine "
            f"({trained.folder / 'best'}).",
            style="yellow",
        )
    elif is_base_model(_name(config)):
        out.say(
            f"{config.model} is a base model: nobody has trained it to think for retrieval, nor "
            "to embed, so low scores are what to expect (an untrained Qwen3-4B scores 5.6 on "
            "BRIGHT). The rows show that everything works, and what training starts from.",
            style="yellow",
        )
    out.say(f"report: {(config.output / 'report.html').resolve()}", style="bold")
    out.say(f"run folder: {config.output}   took {in_words(seconds)}")
