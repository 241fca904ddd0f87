"""What a run leaves behind: its checkpoints, and the weights that are exported from them."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import jax
from flax import nnx

from t1_jax.config import to_yaml
from t1_jax.errors import RetryableError, T1Error
from t1_jax.model import total_peak_flops
from t1_jax.train.batches import StageState
from t1_jax.train.config import TrainConfig
from t1_jax.train.export import export_weights, training_summary
from t1_jax.train.infra import (
    Checkpoints,
    DamagedCheckpoint,
    Health,
    Meter,
    RunFolder,
    abstract_like,
)
from t1_jax.train.model import TrainableModel
from t1_jax.train.sources import TrainingData
from t1_jax.train.stage import Stage


@dataclass(kw_only=True)
class RunningStage:
    """The stage in progress.

    Attributes:
        stage: batches and optimizer.
        state: weights, moments, and copies of the weights that a rollout needs.
        first_step: steps of the stages before it.
        done: steps of this stage that are complete.
        metrics: of the last step.
    """

    stage: Stage
    state: StageState
    first_step: int
    done: int = 0
    metrics: dict[str, float] = field(default_factory=dict)

    @property
    def step(self) -> int:
        """Steps of the whole run that are complete."""
        return self.first_step + self.done

    @property
    def at_end(self) -> bool:
        """Whether all steps of the stage are complete."""
        return self.done >= self.stage.steps

    @property
    def validation_due(self) -> bool:
        """Whether a validation follows the last step."""
        every = self.stage.config.validate_every
        return self.at_end or bool(every and self.done % every == 0)

    @property
    def weights(self) -> nnx.State:
        """The weights to validate and export."""
        return self.state.train.best_weights


@dataclass(kw_only=True)
class Progress:
    """Counts and scores of a run so far.

    Attributes:
        health: which metrics are bad, and for how long.
        meter: tokens so far, and the speed.
        steps: stage -> steps done.
        validations: stage -> metrics of its last validation.
        best: the best validation score and its step.
        validation_pending: a stop interrupted a validation, which is repeated on resuming.
    """

    health: Health
    meter: Meter
    steps: dict[str, int] = field(default_factory=dict)
    validations: dict[str, dict[str, float]] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    validation_pending: bool = False

    def state_dict(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "validation_owed": self.validation_pending,
            "health": self.health.state_dict(),
            "tokens": self.meter.tokens,
            "steps": self.steps,
            "best": self.best,
            "validations": self.validations,
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what `state_dict` returned."""
        self.validation_pending = state["validation_owed"]
        self.health.load_state_dict(state["health"])
        self.meter = Meter(total_peak_flops(), tokens=int(state["tokens"]))
        self.steps = dict(state["steps"])
        self.best = None if state["best"] is None else (state["best"][0], state["best"][1])
        self.validations = {name: dict(scores) for name, scores in state["validations"].items()}

    def update_best(self, score: float, step: int) -> None:
        """Keeps the score if it is the best so far."""
        if self.best is None or score > self.best[0]:
            self.best = (score, step)


class RunSaver:
    """Saves a run, restores it, and exports weights; only saved weights are exported.

    All processes call its methods together. `identity` is in all checkpoints, see `run_identity`;
    so is `progress`. `log` hears of damaged checkpoints.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        model: TrainableModel,
        folder: RunFolder,
        checkpoints: Checkpoints,
        *,
        identity: Mapping[str, Any],
        log: Callable[[str], None],
    ) -> None:
        self.folder = folder
        self.checkpoints = checkpoints
        self.progress = Progress(health=Health(config.health), meter=Meter(total_peak_flops()))
        self._config = config
        self._data = data
        self._model = model
        self._identity = identity
        self._log = log
        self._abstract: Any = None

    def latest_meta(self) -> dict[str, Any] | None:
        """The metadata of the newest checkpoint that has them; None if there is none."""
        while (latest := self.checkpoints.latest()) is not None:
            try:
                return self.checkpoints.meta(latest)
            except DamagedCheckpoint as error:
                self._set_aside(latest, error)
        return None

    def _set_aside(self, step: int, error: DamagedCheckpoint) -> None:
        self.checkpoints.set_aside_damaged(step)
        latest = self.checkpoints.latest()
        used = "no checkpoint is left" if latest is None else f"that of step {latest} is used"
        self._log(f"warning: {error.message}; {used}")

    def save(self, running: RunningStage, *, replace: bool = False) -> None:
        """Begins to save the run as it is after a step; see `Checkpoints.save`.

        Raises:
            T1Error: the checkpoint could not be written; or the logs could not be uploaded, which
                leaves the checkpoint as it is.
        """
        try:
            self.folder.upload()  # first, so that no logs of a saved step are missing
        except T1Error:
            self._save(running, replace=replace)
            raise
        self._save(running, replace=replace)

    def _save(self, running: RunningStage, *, replace: bool) -> None:
        source = running.stage.state_dict()
        meta = {
            **self._identity,
            **self.progress.state_dict(),
            "config": to_yaml(self._config),
            "stage": running.stage.name,
            "first_step": running.first_step,
            "stage_step": running.done,
            "draws": source["position"],
        }
        self.checkpoints.save(
            running.step,
            running.state,
            source["arrays"],
            meta,
            running.metrics,
            replace=replace,
        )

    def restore(self, stage: Stage, meta: Mapping[str, Any]) -> RunningStage | None:
        """The stage of the newest checkpoint and all progress, as they were when it was saved.

        Consumes the initial weights of the model; for `meta` see `latest_meta`. Returns None if the
        checkpoint is damaged: it is set aside, and the one before it is of the same stage.

        Raises:
            RetryableError: it is damaged, and there is none before it of the same stage; or it
                could not be read, and is left as it is.
            WeightsError: it holds arrays of another shape.
            DataError: it belongs to other data.
        """
        initial = self._model.initial
        step = meta["first_step"] + meta["stage_step"]
        if self._abstract is None:
            self._abstract = abstract_like(stage.start(initial))
            for leaf in jax.tree.leaves(initial):
                leaf.delete()  # the restored weights replace them
        try:
            restored = self.checkpoints.restore(step, self._abstract)
        except DamagedCheckpoint as error:
            self._set_aside(step, error)
            earlier = self.latest_meta()
            if earlier is None or earlier["stage"] != stage.name:
                # The weights to start from are consumed, or the state has another shape.
                start = "the beginning" if earlier is None else "the checkpoint before it"
                raise RetryableError(
                    f"{error.message}; it was set aside",
                    hint=f"the same command starts from {start}",
                ) from error
            return None
        stage.load_state_dict({"position": meta["draws"], "arrays": restored.host})
        self.progress.load_state_dict(meta)
        return RunningStage(
            stage=stage,
            state=restored.state,
            first_step=meta["first_step"],
            done=meta["stage_step"],
        )

    def rescue(self, running: RunningStage, error: Exception) -> None:
        """Saves the last complete step before an error ends the run, if that is possible."""
        # Only a T1Error is raised on all processes together, which saving needs.
        is_alone = jax.process_count() > 1 and not isinstance(error, T1Error)
        is_consumed = any(leaf.is_deleted() for leaf in jax.tree.leaves(running.state))
        if not running.done or is_alone or is_consumed:
            return
        with suppress(OSError, T1Error):  # the error to report is the one that ended the run
            self.save(running)
            self.checkpoints.wait()
            error.add_note(f"the run is saved at step {running.step}; the same command resumes it")

    def retryable(self, error: OSError | T1Error) -> RetryableError:
        """The error that ends the run, with the step at which the run is saved."""
        with suppress(OSError, T1Error):
            self.checkpoints.wait()
        saved = self.checkpoints.latest()
        message, hint = str(error), None
        if isinstance(error, T1Error):
            message, hint = error.message, error.hint
        where = "nothing is saved yet" if saved is None else f"the run is saved at step {saved}"
        return RetryableError(f"{message}; {where}", hint=hint or "give the same command again")

    def export_best(self, running: RunningStage) -> None:
        """Exports the weights of this step if they are the best; call it once they are saved."""
        if self.progress.best is not None and self.progress.best[1] == running.step:
            scores = self.progress.validations[running.stage.name]
            self.export(running.weights, "best", scores)

    def export(self, weights: nnx.State, name: str, scores: Mapping[str, float]) -> None:
        """Exports weights that are saved already to the folder `name` in the run folder.

        Raises:
            T1Error: see `export_weights`; names the checkpoint that holds these weights.
        """
        self.checkpoints.wait()
        summary = training_summary(
            self._config, self._data, self._model.lora, self.progress.steps, scores
        )
        try:
            export_weights(self._model, weights, self.folder.path / name, self._config, summary)
        except T1Error as error:
            raise type(error)(
                f"{name} could not be exported: {error.message}; its weights are in the checkpoint "
                f"of step {self.checkpoints.latest()}",
                hint=f"{error.hint or 'remove the cause'} (with resume=true if a setting changes); "
                "the same command then exports them",
            ) from error
        self.folder.upload()
