"""Checkpoints of a training run: asynchronous, sharded and atomic. The only module that uses Orbax.

A checkpoint holds `state`, a pytree of arrays sharded over the mesh; `host`, a few NumPy arrays
that are equal on all processes; and `meta`, JSON that identifies the run and holds its progress.
Orbax writes into a temporary folder and renames it, so a killed run keeps its earlier checkpoints.
"""

import logging
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from t1_jax.errors import ConfigError, T1Error, WeightsError
from t1_jax.train.infra.pytree_io import described, differences, named, rebuilt
from t1_jax.train.infra.stopping import any_process

_PARTS = ("state", "host")
_REPLACED = ".replaced"


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run is saved, and which checkpoints are kept.

    Attributes:
        every_steps: steps between two checkpoints.
        every_minutes: also save when this many minutes have passed since the last checkpoint; null
            for never.
        keep_last: number of newest checkpoints to keep.
        keep_best: number of checkpoints with the highest `metric` to keep as well.
        metric: validation score that compares checkpoints and selects the exported `best` weights:
            "validation/ndcg@10", or "validation/NAME/ndcg@10" of a collection.
    """

    every_steps: int = 100
    every_minutes: float | None = None
    keep_last: int = 2
    keep_best: int = 1
    metric: str = "validation/ndcg@10"

    def __post_init__(self) -> None:
        if self.every_steps < 1:
            raise ConfigError(f"every_steps must be at least 1, got {self.every_steps}")
        if self.every_minutes is not None and self.every_minutes <= 0:
            raise ConfigError(
                f"every_minutes must be above 0, got {self.every_minutes}",
                hint="set it to null to save only every every_steps steps",
            )
        if self.keep_last < 1 or self.keep_best < 0:
            raise ConfigError(
                f"keep_last must be at least 1 and keep_best at least 0, got {self.keep_last} "
                f"and {self.keep_best}"
            )


@dataclass(frozen=True, kw_only=True)
class Restored:
    """The contents of a checkpoint.

    Attributes:
        state: the pytree, with the shardings that were asked for.
        host: name -> host array.
        meta: JSON.
    """

    state: Any
    host: dict[str, np.ndarray]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in a folder that all processes share.

    All processes call every method together. Use it as a context manager, or call `close()`: a
    checkpoint is complete only after `wait`.

    Args:
        folder: of the checkpoints; created if missing.
        config: when to save and what to keep.
        writable: false changes nothing in the folder, for reading while a run is training.
    """

    def __init__(self, folder: Path, config: CheckpointConfig, *, writable: bool = True) -> None:
        self.folder = Path(folder).resolve()
        self.config = config
        self._writable = writable
        self._pending: tuple[int, ocp.AsyncResponse[bool]] | None = None
        self._saved_at = time.monotonic()
        logging.getLogger("absl").addFilter(_not_from_orbax)
        if writable:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._resolve_replaced()
            self._set_aside_incomplete()
        self._orbax = self._open()

    def due(self, step: int) -> bool:
        """Whether a checkpoint is due after `step` steps; the same on every process."""
        minutes = self.config.every_minutes
        if step % self.config.every_steps == 0 or minutes is None:
            return step % self.config.every_steps == 0
        return any_process(time.monotonic() - self._saved_at >= 60 * minutes)

    def save(
        self,
        step: int,
        state: Any,
        host: Mapping[str, np.ndarray],
        meta: Mapping[str, Any],
        metrics: Mapping[str, float | int] | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Begins to save; returns once the arrays are copied, and writes in the background.

        Does nothing if the step already has a checkpoint, unless `replace`: then it is written
        again, and the old one removed only when the new one is complete, which this call waits for.
        With `config.metric` among its metrics, a step is a candidate for the best. `state` is a
        pytree of `jax.Array`s, PRNG keys included; `host` has NumPy arrays of numbers or booleans;
        `meta` is JSON.

        Raises:
            T1Error: this or the previous checkpoint could not be written (earlier ones remain),
                or a checkpoint of a later step is in the folder.
        """
        if not self._writable:
            raise T1Error(f"{self.folder} was opened read-only")
        self.wait()
        if replace:
            self._set_aside(step)
        steps = self.steps()
        if step in steps:
            return
        if steps and steps[-1] > step:
            raise T1Error(
                f"{self.folder} has a checkpoint of step {steps[-1]}, which is after step {step}",
                hint=f"resume from step {steps[-1]}, or train in another folder",
            )
        try:
            response = self._orbax.save_checkpointables_async(
                step,
                {"state": named(state), "host": _packed(host)},
                force=True,
                metrics=self._value(metrics or {}),
                custom_metadata=dict(meta),
            )
        except (OSError, ValueError, RuntimeError) as error:
            raise self._write_error(step, error) from error
        self._saved_at = time.monotonic()
        self._pending = None if response is None else (step, response)
        if replace:
            self.wait()
            self._resolve_replaced()

    def wait(self) -> None:
        """Waits until the last checkpoint is complete on disk.

        Raises:
            T1Error: the write failed; earlier checkpoints remain, and saving can go on.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        try:
            response.result()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._write_error(step, error) from error

    def steps(self) -> list[int]:
        """Steps with a complete checkpoint, ascending."""
        return [c.step for c in self._orbax.checkpoints if self._complete(c.step)]

    def latest(self) -> int | None:
        """The newest step with a complete checkpoint; None without any."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The step with the highest `config.metric`, the later of two equal ones; None without
        that metric.
        """
        values = self.values()
        return max(values, key=lambda step: (values[step], step), default=None)

    def values(self) -> dict[int, float]:
        """Step -> `config.metric`, for complete checkpoints that have it."""
        complete = set(self.steps())
        by_step = {c.step: c.metrics for c in self._orbax.checkpoints if c.step in complete}
        return {
            step: float(value)
            for step, metrics in by_step.items()
            if isinstance(metrics, Mapping)
            and isinstance(value := metrics.get(self.config.metric), int | float)
        }

    def meta(self, step: int, *, expect: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON of a checkpoint, with the entries of `expect`, such as a model's fingerprint.

        Raises:
            WeightsError: there is no complete checkpoint of that step, or it belongs to another
                run (names both values).
        """
        if step not in self.steps():
            steps = ", ".join(map(str, self.steps())) or "none"
            raise WeightsError(
                f"{self.folder} has no complete checkpoint of step {step}; it has {steps}"
            )
        metadata = self._orbax.checkpointables_metadata(step).custom_metadata
        meta = dict(metadata) if isinstance(metadata, Mapping) else {}
        _check_identity(self.folder / str(step), meta, expect or {})
        return meta

    def restore(
        self, step: int, abstract: Any, *, expect: Mapping[str, Any] | None = None
    ) -> Restored:
        """The contents of a checkpoint, with the shardings of `abstract`, on any mesh.

        `abstract` is the state's tree with a sharded `jax.ShapeDtypeStruct` at every leaf, see
        `abstract_like`; for `expect` see `meta`.

        Raises:
            WeightsError: the checkpoint is missing, damaged or of another run, or its arrays
                differ in name, shape or dtype.
        """
        meta = self.meta(step, expect=expect)
        path = self.folder / str(step)
        wanted = described(abstract)
        try:
            saved = self._orbax.checkpointables_metadata(step).metadata["state"]
            if saved is None:
                raise OSError("its table of arrays is damaged")
            _check_arrays(path, saved, wanted)
            loaded = self._orbax.load_checkpointables(step, {"state": wanted, "host": None})
            host = safetensors.numpy.load(np.asarray(loaded["host"]["packed"]).tobytes())
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise WeightsError(
                f"{path} cannot be read: {_first_line(error)}",
                hint=f"delete {path}: the run resumes from the newest remaining checkpoint of "
                f"{self.steps()}",
            ) from error
        return Restored(state=rebuilt(abstract, loaded["state"]), host=host, meta=meta)

    def close(self) -> None:
        """Waits for the last checkpoint and closes the folder."""
        try:
            self.wait()
        finally:
            self._orbax.close()
            logging.getLogger("absl").removeFilter(_not_from_orbax)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _open(self) -> ocp.training.Checkpointer:
        policies = ocp.training.preservation_policies
        metric = self.config.metric
        best = policies.BestN(
            get_metric_fn=lambda metrics: metrics[metric],
            n=self.config.keep_best,
            keep_checkpoints_without_metrics=False,
        )
        keep = policies.AnyPreservationPolicy([policies.LatestN(self.config.keep_last), best])
        return ocp.training.Checkpointer(
            str(self.folder),
            # Orbax's own policies and the protocol they implement disagree on a parameter's type.
            preservation_policy=keep,  # pyright: ignore[reportArgumentType]
            cleanup_tmp_directories=self._writable,
        )

    def _value(self, metrics: Mapping[str, float | int]) -> dict[str, Any] | None:
        """The metric by which Orbax selects the best; None if it is missing or not finite."""
        value = float(metrics.get(self.config.metric, math.nan))
        return {self.config.metric: value} if math.isfinite(value) else None

    def _write_error(self, step: int, error: Exception) -> T1Error:
        """The error to raise; reopens Orbax, which removes the incomplete checkpoint."""
        with suppress(OSError, ValueError, RuntimeError):  # repeats the same error
            self._orbax.close()
        self._resolve_replaced()
        self._orbax = self._open()
        return T1Error(
            f"the checkpoint of step {step} could not be written to {self.folder}: "
            f"{_first_line(error)}",
            hint="free disk space or check permissions, then run the command again: it resumes "
            f"from step {self.latest() or 0}",
        )

    def _complete(self, step: int) -> bool:
        """Whether the folder of a step has all its parts; a copy of it may be incomplete."""
        path = self.folder / str(step)
        files = (path / part / name for part in _PARTS for name in ("_METADATA", "manifest.ocdbt"))
        return (path / "_CHECKPOINT_METADATA").is_file() and all(file.is_file() for file in files)

    def _set_aside(self, step: int) -> None:
        """Hides the checkpoint of a step from Orbax by renaming it."""
        self._orbax.close()
        if jax.process_index() == 0 and (self.folder / str(step)).exists():
            (self.folder / str(step)).rename(self.folder / f"{step}{_REPLACED}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoint set aside")
        self._orbax = self._open()

    def _resolve_replaced(self) -> None:
        """Removes replaced checkpoints, or restores them if their replacement is incomplete."""
        if jax.process_index() == 0:
            for replaced in self.folder.glob(f"*{_REPLACED}"):
                path = replaced.with_name(replaced.name.removesuffix(_REPLACED))
                if self._complete(int(path.name)):
                    shutil.rmtree(replaced)
                else:
                    shutil.rmtree(path, ignore_errors=True)
                    replaced.rename(path)

    def _set_aside_incomplete(self) -> None:
        """Hides incomplete checkpoints, which Orbax would count as kept.

        One that is older than a complete checkpoint was being removed when the run was killed, and
        is removed; a newer one is renamed.
        """
        if jax.process_index() == 0:
            paths = {int(path.name): path for path in self.folder.iterdir() if path.name.isdigit()}
            complete = {step for step in paths if self._complete(step)}
            for step in paths.keys() - complete:
                if step < max(complete, default=0):
                    shutil.rmtree(paths[step])
                else:
                    paths[step].rename(self.folder / f"{step}.incomplete-{time.time_ns()}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("incomplete checkpoints set aside")


def _packed(host: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Host arrays as one array of bytes, which keeps names, dtypes and empty arrays."""
    arrays = {name: np.array(array, order="C") for name, array in host.items()}
    return {"packed": np.frombuffer(safetensors.numpy.save(arrays), dtype=np.uint8)}


def _check_identity(path: Path, meta: Mapping[str, Any], expect: Mapping[str, Any]) -> None:
    for key, value in expect.items():
        if meta.get(key) != value:
            raise WeightsError(
                f"{path} belongs to another {key}: it has {meta.get(key)!r}, this run has "
                f"{value!r}",
                hint=f"use the {key} it was trained with, or train in another folder",
            )


def _check_arrays(path: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares names, shapes and dtypes; Orbax would cast or truncate some silently."""
    if faults := differences(saved, wanted):
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise WeightsError(
            f"{path} holds another state: {'; '.join(faults[:5])}{more}",
            hint="resume with the model, optimizer and LoRA settings of the run that wrote it",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _not_from_orbax(record: logging.LogRecord) -> bool:
    """Drops the tracebacks that Orbax logs for every thread; the error itself is raised once."""
    return "orbax" not in record.pathname
