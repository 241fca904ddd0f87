"""The lesson of the quick start: a base model goes through all three stages, briefly."""

from pathlib import Path
from typing import TYPE_CHECKING

from rich.table import Table

from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.train import TrainConfig, TrainResult


def training_config(config: Path, model: str) -> "TrainConfig":
    """The config of a training of `model` from the beginning.

    Raises:
        ConfigError: the file cannot be read as one.
    """
    from t1_jax.config import load_config
    from t1_jax.train import TrainConfig

    return load_config(TrainConfig, config, [f"model.path={model}", "overwrite=true"])


def learn(out: Output, config: "TrainConfig") -> "TrainResult":
    """Trains as `config` says; shows the score after each stage."""
    from t1_jax.train import train

    out.note("training: all three stages in a few minutes")
    result = train(config, log=out.note)
    out.show(_table(result))
    if result.stopped is not None:
        out.say(f"training was cut short: {result.stopped}", style="yellow")
    return result


def _table(result: "TrainResult") -> Table:
    """A row for the base model and each stage, a column for each collection."""
    metrics = [
        name for name in next(iter(result.validations.values()), {}) if name.endswith("/ndcg@10")
    ]
    table = Table(title="Validation nDCG@10 while it learns (a part of each corpus)")
    table.add_column("after")
    for name in metrics:
        collection = name.removeprefix("validation/").removesuffix("ndcg@10").strip("/")
        table.add_column(collection or "mean", justify="right")
    for stage, metrics in result.validations.items():
        table.add_row(stage, *(f"{metrics[name]:.3f}" for name in metrics))
    return table
