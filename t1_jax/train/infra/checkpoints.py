"""Checkpoints of a training run: asynchronous, sharded and atomic. The only module that uses Orbax.

A checkpoint holds `state`, a pytree of arrays sharded over the mesh; `host`, a few NumPy arrays
that are equal on all processes; and `meta`, JSON that identifies the run and holds its progress.
Orbax writes into a temporary folder and renames it, or marks a folder in a bucket as complete, so a
killed run keeps its earlier checkpoints. Checksums of all arrays are saved and compared, since the
format has none for large arrays.
"""

import json
import logging
import math
import os
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from etils import epath
from etils.epath.backend import fsspec_backend
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from t1_jax.errors import ConfigError, RetryableError, T1Error, WeightsError
from t1_jax.train.infra.integrity import (
    causes,
    changes_since_saved,
    check_json,
    checksums,
    first_line,
    is_damage,
    is_file,
    packed,
    unpacked,
)
from t1_jax.train.infra.pytree_io import described, differences, named, rebuilt
from t1_jax.train.infra.stopping import any_process

_MARKS = (
    "_CHECKPOINT_METADATA",
    "state/_METADATA",
    "state/manifest.ocdbt",
    "host/_METADATA",
    "host/manifest.ocdbt",
)
"""Files that a complete checkpoint has."""
_REPLACED = ".replaced"
_MARK = "format"
"""A key in the metadata of every checkpoint: without it they may be empty."""
_COMMITTED = "commit_success.txt"
"""The file that Orbax writes last to a checkpoint in a bucket."""
_T = TypeVar("_T")


class DamagedCheckpoint(WeightsError):  # noqa: N818 - a state of the checkpoint
    """A checkpoint whose files are missing, truncated or changed; earlier ones may be sound."""


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
    """The checkpoints of one run, in a folder or bucket that all processes share.

    All processes call every method together. Use it as a context manager, or call `close()`: a
    checkpoint is complete only after `wait`.

    Args:
        folder: of the checkpoints; created if missing.
        config: when to save and what to keep.
        writable: false changes nothing in the folder, for reading while a run is training.
    """

    def __init__(
        self, folder: Path | epath.Path, config: CheckpointConfig, *, writable: bool = True
    ) -> None:
        self._in_bucket = "://" in os.fspath(folder)
        self.folder = epath.Path(folder if self._in_bucket else Path(folder).resolve())
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
        arrays = named(state)
        meta = json.loads(json.dumps(meta))  # Orbax writes it later, when the caller's has changed
        try:
            response = self._orbax.save_checkpointables_async(
                step,
                {"state": arrays, "host": packed(host, meta, checksums(arrays))},
                force=True,
                metrics=self._value(metrics or {}),
                custom_metadata={_MARK: 1, **meta},
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
            DamagedCheckpoint: a file of it is missing, truncated or changed, on any process.
            RetryableError: it could not be read, and nothing says that it is damaged.
            WeightsError: there is no complete checkpoint of that step, or it belongs to another
                run (names both values).
        """
        return self._agreed(step, lambda: self._meta(step, expect or {}))

    def _meta(self, step: int, expect: Mapping[str, Any]) -> dict[str, Any]:
        path = self.folder / str(step)
        if step not in self.steps():
            steps = ", ".join(map(str, self.steps())) or "none"
            raise WeightsError(
                f"{self.folder} has no complete checkpoint of step {step}; it has {steps}"
            )
        check_json(path / "_CHECKPOINT_METADATA")
        saved = self._orbax.checkpointables_metadata(step).custom_metadata
        meta: dict[str, Any] = dict(saved) if isinstance(saved, Mapping) else {}
        if not meta:  # so Orbax returns a file that it cannot read
            raise OSError("its metadata could not be read")
        meta.pop(_MARK, None)
        _check_identity(path, meta, expect)
        return meta

    def restore(
        self, step: int, abstract: Any, *, expect: Mapping[str, Any] | None = None
    ) -> Restored:
        """The contents of a checkpoint, with the shardings of `abstract`, on any mesh.

        `abstract` is the state's tree with a sharded `jax.ShapeDtypeStruct` at every leaf, see
        `abstract_like`; for `expect` see `meta`.

        Raises:
            DamagedCheckpoint: a file of it is missing, truncated or changed, on any process.
            RetryableError: it could not be read, and nothing says that it is damaged: there was no
                memory for it, or a disk or a bucket did not answer.
            WeightsError: the checkpoint is missing or of another run, or its arrays differ in name,
                shape or dtype.
        """
        meta = self.meta(step, expect=expect)
        state, host, checks = self._agreed(step, lambda: self._load(step, described(abstract)))
        # Checksums are a collective, which all processes enter: all of them have loaded.
        changes = changes_since_saved(meta, state, checks)
        if any_process(bool(changes)):
            what = changes or "what another process read"
            raise self._damaged(step, f"{what} changed since it was saved")
        return Restored(state=rebuilt(abstract, state), host=host, meta=meta)

    def _load(
        self, step: int, wanted: dict[str, Any]
    ) -> tuple[dict[str, jax.Array], dict[str, np.ndarray], dict[str, Any]]:
        """The arrays of a checkpoint, its host arrays, and what `changes_since_saved` compares."""
        path = self.folder / str(step)
        for name in ("state/_METADATA", "state/_sharding", "host/_METADATA"):
            if is_file(path / name):
                check_json(path / name)
        saved = self._orbax.checkpointables_metadata(step).metadata["state"]
        if saved is not None:
            _check_arrays(path, saved, wanted)
        loaded = self._orbax.load_checkpointables(step, {"state": wanted, "host": None})
        if saved is None:  # Orbax tells no reason; reading the arrays would have raised a damage
            raise OSError("its table of arrays could not be read")
        return loaded["state"], *unpacked(np.asarray(loaded["host"]["packed"]).tobytes())

    def _agreed(self, step: int, read: Callable[[], _T]) -> _T:
        """What `read` returns; an error of one process is raised on all of them."""
        result, failure = None, None
        try:
            result = read()
        except T1Error as error:
            failure = error
        except Exception as error:  # those of a bucket's client have no common base class
            failure = self._read_error(step, error)
            failure.__cause__ = error
        damaged = any_process(isinstance(failure, DamagedCheckpoint))
        failed = any_process(failure is not None)
        if damaged and not isinstance(failure, DamagedCheckpoint):
            raise self._damaged(step, "another process found it damaged") from failure
        if failed:
            raise failure or self._unread(step, "another process could not read it")
        return result  # pyright: ignore[reportReturnType] - None only where `read` returns it

    def _read_error(self, step: int, error: Exception) -> T1Error:
        """A damaged checkpoint if the error proves it; otherwise an error that may pass."""
        *_, root = causes(error)
        reason = first_line(root)
        return self._damaged(step, reason) if is_damage(error) else self._unread(step, reason)

    def _unread(self, step: int, reason: str) -> RetryableError:
        path = self.folder / str(step)
        return RetryableError(
            f"{path} could not be read: {reason}",
            hint=f"give the same command again; if this goes on, delete {path} to resume from an "
            "earlier checkpoint",
        )

    def _damaged(self, step: int, reason: str) -> DamagedCheckpoint:
        path = self.folder / str(step)
        return DamagedCheckpoint(
            f"{path} cannot be read: {reason}",
            hint=f"delete {path}: the run resumes from the newest remaining checkpoint of "
            f"{self.steps()}",
        )

    def set_aside_damaged(self, step: int) -> None:
        """Hides a checkpoint from Orbax by renaming it; the one before it is then the newest."""
        self._orbax.close()
        if jax.process_index() == 0:
            self._hide(self.folder / str(step), "damaged")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("damaged checkpoint set aside")
        self._orbax = self._open()

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
            f"{first_line(error)}",
            hint="free disk space or check permissions, then run the command again: it resumes "
            f"from step {self.latest() or 0}",
        )

    def _complete(self, step: int | str) -> bool:
        """Whether the folder of a step has all its parts; a copy of it may be incomplete."""
        names = [*_MARKS, *([_COMMITTED] if self._in_bucket else [])]
        return all(is_file(self.folder / str(step) / name) for name in names)

    def _entries(self) -> list[epath.Path]:
        """What is in the folder; an empty folder of a bucket does not exist."""
        return list(self.folder.iterdir()) if self.folder.exists() else []

    def _set_aside(self, step: int) -> None:
        """Hides the checkpoint of a step from Orbax by renaming it."""
        self._orbax.close()
        if jax.process_index() == 0 and self._complete(step):
            self._move(str(step), f"{step}{_REPLACED}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoint set aside")
        self._orbax = self._open()

    def _resolve_replaced(self) -> None:
        """Removes replaced checkpoints, or restores them if their replacement is incomplete."""
        if jax.process_index() == 0:
            for replaced in self._entries():
                if not replaced.name.endswith(_REPLACED):
                    continue
                path = self.folder / replaced.name.removesuffix(_REPLACED)
                if self._complete(path.name):
                    replaced.rmtree()
                    continue
                if self._complete(replaced.name):  # otherwise a move in a bucket was interrupted
                    path.rmtree(missing_ok=True)
                self._move(replaced.name, path.name)

    def _move(self, name: str, new_name: str) -> None:
        """Renames a complete checkpoint; one in a bucket file by file, as buckets have no folders.

        The source is incomplete from the first file on, and the target until the last one, so that
        `_resolve_replaced` can finish what was interrupted.
        """
        source, target = self.folder / name, self.folder / new_name
        if not self._in_bucket:
            source.rename(target)
            return
        client = fsspec_backend.fs(self.folder)
        start = os.fspath(source).partition("://")[2] + "/"
        files = [file.removeprefix(start) for file in client.find(os.fspath(source))]
        first, last = (_COMMITTED, _MARKS[0])[:: 1 if new_name.endswith(_REPLACED) else -1]
        for file in sorted(files, key=lambda file: (file == last) - (file == first)):
            client.cp_file(os.fspath(source / file), os.fspath(target / file))
            client.rm_file(os.fspath(source / file))

    def _set_aside_incomplete(self) -> None:
        """Hides incomplete checkpoints, which Orbax would count as kept.

        One that is older than a complete checkpoint was being removed when the run was killed, and
        is removed; a newer one is renamed, or removed from a bucket.
        """
        if jax.process_index() == 0:
            paths = {int(path.name): path for path in self._entries() if path.name.isdigit()}
            complete = {step for step in paths if self._complete(step)}
            for step in paths.keys() - complete:
                if step < max(complete, default=0) or self._in_bucket:
                    paths[step].rmtree()
                else:
                    self._hide(paths[step], "incomplete")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("incomplete checkpoints set aside")

    def _hide(self, path: epath.Path, state: str) -> None:
        path.rename(self.folder / f"{path.name}.{state}-{time.time_ns()}")


def _check_identity(path: epath.Path, meta: Mapping[str, Any], expect: Mapping[str, Any]) -> None:
    for key, value in expect.items():
        if meta.get(key) != value:
            raise WeightsError(
                f"{path} belongs to another {key}: it has {meta.get(key)!r}, this run has "
                f"{value!r}",
                hint=f"use the {key} it was trained with, or train in another folder",
            )


def _check_arrays(path: epath.Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares names, shapes and dtypes; Orbax would cast or truncate some silently."""
    if faults := differences(saved, wanted):
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise WeightsError(
            f"{path} holds another state: {'; '.join(faults[:5])}{more}",
            hint="resume with the model, optimizer and LoRA settings of the run that wrote it",
        )


def _not_from_orbax(record: logging.LogRecord) -> bool:
    """Drops the tracebacks that Orbax logs for every thread; the error itself is raised once."""
    return "orbax" not in record.pathname
