"""Trackers: metrics go to the run folder, and optionally to TensorBoard and Weights & Biases."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal, Protocol

import jax

from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.files import write_atomically
from t1_jax.train.infra.folder import RunFolder

_EXTRA = "install the extra: pip install 't1_jax[tracking]'"


@dataclass(frozen=True, kw_only=True)
class TrackingConfig:
    """Where metrics go besides the run folder's `metrics.jsonl`.

    Attributes:
        every_steps: steps between two logged steps.
        tensorboard: write TensorBoard event files into the run folder.
        wandb: Weights & Biases: `offline` writes into the run folder, for a later `wandb sync`;
            `online` sends during the run.
        project: W&B project.
        name: W&B run name; null takes the folder's name.
        thoughts: validation queries whose thoughts are written to the run folder.
        rollouts: queries of each step whose sampled thoughts, with their rewards, are written to
            the run folder.
    """

    every_steps: int = 1
    tensorboard: bool = False
    wandb: Literal["off", "offline", "online"] = "off"
    project: str = "t1"
    name: str | None = None
    thoughts: int = 8
    rollouts: int = 2

    def __post_init__(self) -> None:
        for name, least in (("every_steps", 1), ("thoughts", 0), ("rollouts", 0)):
            if self.__dict__[name] < least:
                raise ConfigError(f"{name} must be at least {least}, got {self.__dict__[name]}")


def require_trackers(config: TrackingConfig) -> None:
    """Checks that the packages of the configured trackers are installed.

    Raises:
        UnsupportedError: one is not.
    """
    packages = {"tensorboardX": config.tensorboard, "wandb": config.wandb != "off"}
    for package, is_used in packages.items():
        if is_used and find_spec(package) is None:
            raise UnsupportedError(f"tracking needs {package}, which is not installed", hint=_EXTRA)


class _Sink(Protocol):
    """A destination of metrics."""

    name: str

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None: ...

    def close(self) -> None: ...


class Tracker:
    """Sends metrics to the run folder and the configured trackers; only on process 0.

    W&B shows `run_config` beside the curves; TensorBoard hides values after step `resumed_at`.

    Raises:
        UnsupportedError: a tracker is not installed.
    """

    def __init__(
        self,
        config: TrackingConfig,
        folder: RunFolder,
        *,
        run_config: Mapping[str, Any] | None = None,
        resumed_at: int = 0,
    ) -> None:
        self.config = config
        self.folder = folder
        self._sinks: list[_Sink] = []
        if jax.process_index() != 0:
            return
        if config.tensorboard:
            self._sinks.append(_TensorBoard(folder.path / "tensorboard", resumed_at))
        if config.wandb != "off":
            self._sinks.append(_WandB(config, folder.path, run_config or {}))

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        """Logs the metrics of `step`; `metrics.jsonl` is flushed before this returns.

        Raises:
            T1Error: a write, TensorBoard or W&B failed.
        """
        self.folder.record(step, metrics)
        for sink in self._sinks:
            try:
                sink.log(step, metrics)
            except Exception as error:
                raise T1Error(
                    f"the metrics of step {step} could not be sent to {sink.name}: "
                    f"{type(error).__name__}: {error}",
                    hint="check disk space and connection, or turn the tracker off, with "
                    "resume=true",
                ) from error

    def close(self) -> None:
        """Flushes and closes all trackers."""
        while self._sinks:
            self._sinks.pop().close()

    def __enter__(self) -> "Tracker":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class _TensorBoard:
    """Event files by tensorboardX, which needs neither TensorFlow nor PyTorch."""

    name = "TensorBoard"

    def __init__(self, folder: Path, resumed_at: int) -> None:
        try:
            import tensorboardX
        except ImportError as error:
            raise UnsupportedError(
                "TensorBoard files are asked for, and tensorboardX is not installed", hint=_EXTRA
            ) from error
        self._writer = tensorboardX.SummaryWriter(
            str(folder), purge_step=resumed_at + 1 if resumed_at else None
        )

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        for name, value in metrics.items():
            self._writer.add_scalar(name, float(value), step)
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()


class _WandB:
    name = "W&B"

    def __init__(self, config: TrackingConfig, folder: Path, run_config: Mapping[str, Any]) -> None:
        try:
            import wandb
        except ImportError as error:
            raise UnsupportedError(
                f"W&B is asked for ({config.wandb}), and wandb is not installed", hint=_EXTRA
            ) from error
        self._run = wandb.init(
            project=config.project,
            name=config.name or folder.resolve().name,
            id=_stored_id(folder / "wandb-id.txt"),
            resume="allow",
            mode="online" if config.wandb == "online" else "offline",
            dir=str(folder),
            config=dict(run_config),
        )

    def log(self, step: int, metrics: Mapping[str, float | int]) -> None:
        self._run.log(dict(metrics), step=step)

    def close(self) -> None:
        self._run.finish()


def _stored_id(file: Path) -> str:
    """The W&B id of the run, the same after resuming."""
    if not file.exists():
        write_atomically(file, secrets.token_hex(8) + "\n")
    return file.read_text(encoding="utf-8").strip()
