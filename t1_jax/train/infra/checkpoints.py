"""Checkpoints of a training run: asynchronous, sharded and atomic. The one module on Orbax.

A checkpoint holds three things: `state`, a pytree of arrays that lie sharded over the mesh;
`host`, a few NumPy arrays that every process knows (the data position, a random state); and
`meta`, JSON that says what the checkpoint belongs to. Orbax writes into a temporary folder and
renames it, so that a run killed in the middle leaves its earlier checkpoints as they were.
"""

import logging
import math
import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import jax
import numpy as np
import safetensors.numpy
from jax.experimental import multihost_utils
from orbax.checkpoint import v1 as ocp

from t1_jax.errors import ConfigError, T1Error, WeightsError
from t1_jax.train.infra.stopping import any_process
from t1_jax.train.run.pytree_io import described, differences, named, rebuilt

_PARTS = ("state", "host")
_REPLACED = ".replaced"


@dataclass(frozen=True, kw_only=True)
class CheckpointConfig:
    """When a run is saved, and which of its checkpoints are kept.

    Attributes:
        every_steps: a checkpoint after every so many steps.
        every_minutes: also one when so many minutes have passed since the last; null for none.
        keep_last: the newest so many are kept, to resume from.
        keep_best: so many with the highest `metric` are kept as well, however old they are.
        metric: the validation score by which checkpoints are compared, and by which a run exports
            its `best` weights: "validation/ndcg@10", or "validation/NAME/ndcg@10" of a collection.
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
                hint="give null to save by steps alone",
            )
        if self.keep_last < 1 or self.keep_best < 0:
            raise ConfigError(
                f"keep_last must be at least 1 and keep_best at least 0, got {self.keep_last} "
                f"and {self.keep_best}"
            )


@dataclass(frozen=True, kw_only=True)
class Restored:
    """What a checkpoint held.

    Attributes:
        state: the pytree, on the shardings that were asked for.
        host: the host arrays by name.
        meta: the JSON saved with it.
    """

    state: Any
    host: dict[str, np.ndarray]
    meta: dict[str, Any]


class Checkpoints:
    """The checkpoints of one run, in one folder that all processes share.

    Every method must be called by all processes together. Use it as a context manager, or call
    `close()`: a checkpoint is complete only once it has been waited for.

    Args:
        folder: where they lie; created if it is not there.
        config: when to save and what to keep.
        writable: false leaves the folder exactly as it is: for reading beside a running training.
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
            self._settle_replaced()
            self._set_aside_incomplete()
        self._orbax = self._opened()

    def due(self, step: int) -> bool:
        """Whether a checkpoint should be saved after `step` steps; the same on every process."""
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

        A step that already has its checkpoint is left as it is, unless `replace`.

        Args:
            step: steps done.
            state: a pytree of `jax.Array`s, PRNG keys included.
            host: NumPy arrays of numbers or booleans.
            meta: JSON; what `restore` compares and what a person wants to know.
            metrics: measured after this step; `config.metric` among them makes it a candidate
                for the best.
            replace: write a checkpoint of this step again, because more is known of it. The former
                one goes only once the new one is complete, for which this call waits.

        Raises:
            T1Error: the disk refused this or the previous checkpoint (earlier ones still stand),
                or a checkpoint of a later step is in the folder.
        """
        if not self._writable:
            raise T1Error(f"{self.folder} was opened for reading; nothing is saved there")
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
            raise self._refused(step, error) from error
        self._saved_at = time.monotonic()
        self._pending = None if response is None else (step, response)
        if replace:
            self.wait()
            self._settle_replaced()

    def wait(self) -> None:
        """Waits until the last checkpoint is complete on disk.

        Raises:
            T1Error: the disk refused it; earlier checkpoints still stand, and saving can go on.
        """
        if self._pending is None:
            return
        (step, response), self._pending = self._pending, None
        try:
            response.result()
        except (OSError, ValueError, RuntimeError) as error:
            raise self._refused(step, error) from error

    def steps(self) -> list[int]:
        """Steps whose checkpoints are complete, ascending."""
        return [c.step for c in self._orbax.checkpoints if self._complete(c.step)]

    def latest(self) -> int | None:
        """The newest step with a complete checkpoint."""
        return max(self.steps(), default=None)

    def best(self) -> int | None:
        """The step with the highest `config.metric`, the later of two equal ones; None if no
        checkpoint has that metric.
        """
        values = self.values()
        return max(values, key=lambda step: (values[step], step), default=None)

    def values(self) -> dict[int, float]:
        """The value of `config.metric` by step, for complete checkpoints that have it."""
        complete = set(self.steps())
        found = {c.step: c.metrics for c in self._orbax.checkpoints if c.step in complete}
        return {
            step: float(value)
            for step, metrics in found.items()
            if isinstance(metrics, Mapping)
            and isinstance(value := metrics.get(self.config.metric), int | float)
        }

    def meta(self, step: int, *, expect: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """The JSON saved with the checkpoint of `step`.

        Args:
            step: of the checkpoint.
            expect: entries that it must have, such as a model's fingerprint.

        Raises:
            WeightsError: there is no complete checkpoint of that step, or it is of another run
                (both values are shown).
        """
        if step not in self.steps():
            have = ", ".join(map(str, self.steps())) or "none"
            raise WeightsError(
                f"{self.folder} has no complete checkpoint of step {step}; it has {have}"
            )
        metadata = self._orbax.checkpointables_metadata(step).custom_metadata
        found = dict(metadata) if isinstance(metadata, Mapping) else {}
        _refuse_other(self.folder / str(step), found, expect or {})
        return found

    def restore(
        self, step: int, abstract: Any, *, expect: Mapping[str, Any] | None = None
    ) -> Restored:
        """The checkpoint of `step`, laid out as `abstract` says, on whatever mesh that is.

        Args:
            step: one of `steps()`.
            abstract: the state's tree with a `jax.ShapeDtypeStruct` with a sharding at every
                leaf, see `abstract_like`.
            expect: entries that `meta` must have with these values, such as fingerprints.

        Raises:
            WeightsError: no such checkpoint, one of another run (both values are shown), one whose
                arrays differ in name, shape or type, or a damaged one.
        """
        meta = self.meta(step, expect=expect)
        where = self.folder / str(step)
        wanted = described(abstract)
        try:
            saved = self._orbax.checkpointables_metadata(step).metadata["state"]
            if saved is None:
                raise OSError("its table of arrays is damaged")
            _refuse_other_arrays(where, saved, wanted)
            loaded = self._orbax.load_checkpointables(step, {"state": wanted, "host": None})
            host = safetensors.numpy.load(np.asarray(loaded["host"]["packed"]).tobytes())
        except (OSError, ValueError, KeyError, RuntimeError) as error:
            raise WeightsError(
                f"{where} cannot be read: {_first_line(error)}",
                hint=f"delete {where}: the run goes on from the newest checkpoint that is left of "
                f"{self.steps()}",
            ) from error
        return Restored(state=rebuilt(abstract, loaded["state"]), host=host, meta=meta)

    def close(self) -> None:
        """Waits for the last checkpoint and lets go of the folder."""
        try:
            self.wait()
        finally:
            self._orbax.close()
            logging.getLogger("absl").removeFilter(_not_from_orbax)

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _opened(self) -> ocp.training.Checkpointer:
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
        """What Orbax keeps to compare by; None, which never counts as best, if it is no number."""
        value = float(metrics.get(self.config.metric, math.nan))
        return {self.config.metric: value} if math.isfinite(value) else None

    def _refused(self, step: int, error: Exception) -> T1Error:
        """The error to raise; Orbax is opened anew, which removes what it left half written."""
        with suppress(OSError, ValueError, RuntimeError):  # tells the same fault once more
            self._orbax.close()
        self._settle_replaced()
        self._orbax = self._opened()
        return T1Error(
            f"the checkpoint of step {step} could not be written to {self.folder}: "
            f"{_first_line(error)}",
            hint="free disk space or check permissions, then run the command again: it resumes "
            f"from step {self.latest() or 0}",
        )

    def _complete(self, step: int) -> bool:
        """Whether the folder of a step has all its parts; a copy may have been interrupted."""
        at = self.folder / str(step)
        files = (at / part / name for part in _PARTS for name in ("_METADATA", "manifest.ocdbt"))
        return (at / "_CHECKPOINT_METADATA").is_file() and all(file.is_file() for file in files)

    def _set_aside(self, step: int) -> None:
        """Renames the checkpoint of a step, if there is one; Orbax then knows nothing of it."""
        self._orbax.close()
        if jax.process_index() == 0 and (self.folder / str(step)).exists():
            (self.folder / str(step)).rename(self.folder / f"{step}{_REPLACED}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("checkpoint set aside")
        self._orbax = self._opened()

    def _settle_replaced(self) -> None:
        """Removes checkpoints that have been replaced; where that failed, they take their place."""
        if jax.process_index() == 0:
            for former in self.folder.glob(f"*{_REPLACED}"):
                at = former.with_name(former.name.removesuffix(_REPLACED))
                if self._complete(int(at.name)):
                    shutil.rmtree(former)
                else:
                    shutil.rmtree(at, ignore_errors=True)
                    former.rename(at)

    def _set_aside_incomplete(self) -> None:
        """Moves step folders that lack parts out of the way: Orbax would count them as kept.

        One older than a complete checkpoint was being removed when the run was killed, and goes;
        a newer one, perhaps of an interrupted copy, is renamed.
        """
        if jax.process_index() == 0:
            found = {int(at.name): at for at in self.folder.iterdir() if at.name.isdigit()}
            complete = {step for step in found if self._complete(step)}
            for step in found.keys() - complete:
                if step < max(complete, default=0):
                    shutil.rmtree(found[step])
                else:
                    found[step].rename(self.folder / f"{step}.incomplete-{time.time_ns()}")
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("incomplete checkpoints set aside")


def _packed(host: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Host arrays as one array of bytes, which keeps their names, types and empty ones."""
    arrays = {name: np.array(array, order="C") for name, array in host.items()}
    return {"packed": np.frombuffer(safetensors.numpy.save(arrays), dtype=np.uint8)}


def _refuse_other(where: Path, meta: Mapping[str, Any], expect: Mapping[str, Any]) -> None:
    for key, value in expect.items():
        if meta.get(key) != value:
            raise WeightsError(
                f"{where} belongs to another {key}: it has {meta.get(key)!r}, this run has "
                f"{value!r}",
                hint=f"use the {key} it was trained with, or train into another folder",
            )


def _refuse_other_arrays(where: Path, saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    """Compares names, shapes and types, of which Orbax would cast or cut some silently."""
    if faults := differences(saved, wanted):
        more = f" and {len(faults) - 5} more" if len(faults) > 5 else ""
        raise WeightsError(
            f"{where} holds another state: {'; '.join(faults[:5])}{more}",
            hint="resume with the model, optimizer and LoRA settings of the run that wrote it",
        )


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _not_from_orbax(record: logging.LogRecord) -> bool:
    """Orbax logs each fault's traceback once for every thread; ours is told once, as an error."""
    return "orbax" not in record.pathname
