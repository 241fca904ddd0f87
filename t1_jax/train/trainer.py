"""The training loop: stages x steps, and what follows a step: health, validation, logs, saving."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from flax import nnx

from t1_jax.errors import ConfigError, T1Error
from t1_jax.interrupt import Interrupted
from t1_jax.model import flops_per_token
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.infra import (
    GracefulStop,
    Tracker,
    TrainingAborted,
    any_process,
    training_bar,
)
from t1_jax.train.model import TrainableModel
from t1_jax.train.saver import Progress, RunningStage, RunSaver
from t1_jax.train.sources import TrainingData
from t1_jax.train.stage import Stage, StepReport
from t1_jax.train.validate import Validation, validate

Log = Callable[[str], None]
"""Shows a line to the user."""

UNTRAINED = "untrained"
"""Name of the validation before the first step in `TrainResult.validations`."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended.

    Attributes:
        folder: of the run; `stages/<name>` and `best` in it hold the exported weights.
        steps: steps done in all stages.
        stopped: why the run ended early; None if it is complete.
        best: the best validation score and its step; None without a validation.
        validations: stage -> metrics of its last validation; `UNTRAINED` comes first if
            `validate_first` is set.
    """

    folder: Path
    steps: int
    stopped: str | None
    best: tuple[float, int] | None
    validations: Mapping[str, Mapping[str, float]]


@dataclass(kw_only=True)
class _CompletedStep:
    """What the hooks after a step read and change.

    Attributes:
        report: what the step did.
        samples: thoughts to write to the run folder.
        validated: whether a validation of these weights is complete.
        stopping: whether the run ends after this step.
    """

    report: StepReport
    samples: list[dict[str, Any]]
    validated: bool = False
    stopping: bool = False


class Trainer:
    """Runs the stages of a config, from the newest checkpoint to the end.

    `stage_of` returns the stage of a name, `log` shows warnings and milestones.
    """

    _tracker: Tracker

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        model: TrainableModel,
        stage_of: Callable[[str], Stage],
        saver: RunSaver,
        stop: GracefulStop,
        log: Log,
        *,
        show_progress: bool,
    ) -> None:
        self._config = config
        self._data = data
        self._model = model
        self._stage_of = stage_of
        self._saver = saver
        self._stop = stop
        self._log = log
        self._show_progress = show_progress
        self._failure: OSError | T1Error | None = None  # raised once the step is saved

    @property
    def _progress(self) -> Progress:
        return self._saver.progress

    def run(self) -> TrainResult:
        """Trains all remaining stages; each starts from the weights of the one before.

        Call it once, inside `mesh_context.activate()`.

        Raises:
            ConfigError: the newest checkpoint is of an unfinished stage that `run` leaves out.
            TrainingAborted: see `Health`.
            RetryableError: a disk, a tracker or a reward failed; the run is saved up to there.
        """
        names, running = self._config.running, None
        while running is None and (meta := self._saver.latest_meta()) is not None:
            names = self._remaining_stages(meta)
            running = self._saver.restore(self._stage_of(meta["stage"]), meta)
        step = 0 if running is None else running.step
        # The run cannot be rejected from here on, so its folder may change.
        self._saver.folder.commit()
        self._saver.folder.truncate_logs(-1 if running is None else step)
        if running is not None:
            self._log(f"resumed at step {step}, in stage {running.stage.name}")
        with Tracker(
            self._config.tracking,
            self._saver.folder,
            run_config=asdict(self._config),
            resumed_at=step,
        ) as self._tracker:
            try:
                return self._train(names, running)
            except (OSError, T1Error) as error:
                # The subclasses of T1Error name a cause that a second try does not remove.
                if isinstance(error, OSError) or type(error) is T1Error:
                    raise self._saver.retryable(error) from error
                raise

    def _train(self, names: tuple[str, ...], running: RunningStage | None) -> TrainResult:
        weights, first_step = self._model.initial, 0
        if running is not None:
            self._finish_step(running)
        elif self._config.validate_first and self._config.validation is not None:
            stage = self._stage_of(names[0]).config
            if validation := self._measure(UNTRAINED, weights, stage, step=0):
                self._record(0, UNTRAINED, validation.metrics, validation.samples)
        for name in names:
            if running is None:
                stage = self._stage_of(name)
                running = RunningStage(
                    stage=stage, state=stage.start(weights), first_step=first_step
                )
            self._train_stage(running)
            first_step = running.step
            is_last = running.at_end and name == names[-1]
            if self._stop.requested_anywhere() and (
                not is_last or self._progress.validation_pending
            ):
                return self._result(first_step, self._stop.reason or "another process was stopped")
            weights = running.weights
            running = None  # frees the moments of this stage before the next one starts
            self._saver.export(weights, f"stages/{name}", self._progress.validations.get(name, {}))
        return self._result(first_step, None)

    def _train_stage(self, running: RunningStage) -> None:
        """Trains a stage to its end, or until the run is asked to stop."""
        stage = running.stage
        if not running.at_end:
            self._log(f"stage {stage.name}: {running.done} of {stage.steps} steps done")
        with training_bar(
            stage.name, stage.steps, done=running.done, shown=self._show_progress
        ) as show:
            while not running.at_end:
                completed = self._step(running)
                if completed is None:
                    break
                for hook in (self._check_health, self._validate, self._log_step, self._save):
                    hook(running, completed)
                show(running.done, running.metrics)
                if completed.stopping:
                    break
        self._saver.checkpoints.wait()
        self._saver.folder.drop_overwritten()
        self._saver.folder.write_thoughts_page()
        self._saver.folder.upload()

    def _step(self, running: RunningStage) -> _CompletedStep | None:
        """One step; None if the run was asked to stop before it was complete."""
        self._progress.meter.read()  # the time of validations and saving is not a step's
        try:
            running.state, report = running.stage.step(running.state, running.step)
        except Interrupted:
            if running.done:  # otherwise the checkpoint of the stage before is up to date
                self._saver.save(running)
            return None
        except Exception as error:
            self._saver.rescue(running, error)
            raise
        running.done += 1
        self._stop.has_progress = True
        self._progress.steps[running.stage.name] = running.done
        self._progress.validation_pending = self._validation_due(running)
        running.metrics = report.metrics | self._speed(report)
        return _CompletedStep(report=report, samples=report.samples)

    def _speed(self, report: StepReport) -> dict[str, float]:
        work = "train" if self._model.lora is None else "lora"
        flops = flops_per_token(
            self._model.shape,
            work=work,
            context=report.mean_row_tokens / 2,
            read=report.target_frac,
        )
        self._progress.meter.add(report.tokens, flops * report.tokens)
        return self._progress.meter.read()

    def _check_health(self, running: RunningStage, completed: _CompletedStep) -> None:
        """After every step: warns of bad metrics; a run that is aborted still logs the step."""
        try:
            warnings = self._progress.health.check(running.step, running.metrics)
        except TrainingAborted as error:
            self._record(
                running.step, running.stage.name, running.metrics, completed.report.samples
            )
            if error.is_sound:
                self._saver.rescue(running, error)
            raise
        for warning in warnings:
            self._log(f"warning: {warning}")

    def _validate(self, running: RunningStage, completed: _CompletedStep) -> None:
        """Every `validate_every` steps and after the last one: scores held-out queries."""
        if not self._validation_due(running):
            return
        with self._failure_deferred():
            validation = self._measure_stage(running)
            if validation is not None:
                completed.validated = True
                running.metrics = running.metrics | dict(validation.metrics)
                completed.samples = [*completed.samples, *validation.samples]

    def _log_step(self, running: RunningStage, completed: _CompletedStep) -> None:
        """Every `tracking.every_steps` steps, and after a validation: metrics and thoughts."""
        is_due = running.step % self._config.tracking.every_steps == 0
        with self._failure_deferred():
            if is_due or running.at_end or completed.validated:
                self._tracker.log(running.step, running.metrics)
            if completed.samples:
                self._write_thoughts(running.step, running.stage.name, completed.samples)
            if completed.validated:
                self._saver.folder.write_thoughts_page()

    def _save(self, running: RunningStage, completed: _CompletedStep) -> None:
        """Every `checkpoints.every_steps` steps, after a validation, and before the run ends."""
        has_failed = any_process(self._failure is not None)
        completed.stopping = has_failed or self._stop.requested_anywhere()
        is_due = self._saver.checkpoints.due(running.step)
        if is_due or running.validation_due or completed.stopping:
            self._saver.save(running)
        if self._failure is not None:
            raise self._failure
        if completed.validated:
            self._saver.export_best(running)

    def _finish_step(self, running: RunningStage) -> None:
        """Repeats what an earlier session was stopped in: a validation, or an export."""
        if self._progress.validation_pending:
            validation = self._measure_stage(running)
            if validation is not None:
                self._record(
                    running.step, running.stage.name, validation.metrics, validation.samples
                )
                running.metrics = dict(validation.metrics)
                self._saver.save(running, replace=True)
        self._saver.export_best(running)

    def _record(
        self,
        step: int,
        stage: str,
        metrics: Mapping[str, float],
        samples: list[dict[str, Any]],
    ) -> None:
        self._tracker.log(step, metrics)
        self._write_thoughts(step, stage, samples)

    def _write_thoughts(self, step: int, stage: str, samples: list[dict[str, Any]]) -> None:
        self._saver.folder.write_thoughts(step, [{"stage": stage, **row} for row in samples])

    @contextmanager
    def _failure_deferred(self) -> Iterator[None]:
        """Keeps an error of a hook until the step is saved."""
        try:
            yield
        except TrainingAborted:
            raise
        except (OSError, T1Error) as error:
            self._failure = self._failure or error

    def _validation_due(self, running: RunningStage) -> bool:
        return running.validation_due and self._config.validation is not None

    def _measure_stage(self, running: RunningStage) -> Validation | None:
        """Validates the weights of a step and checks the scores; None if interrupted."""
        stage = running.stage
        validation = self._measure(stage.name, running.weights, stage.config, running.step)
        self._progress.validation_pending = validation is None
        if validation is None:
            return None
        for warning in self._progress.health.check(running.step, validation.metrics):
            self._log(f"warning: {warning}")
        score = validation.metrics[self._config.checkpoints.metric]
        self._progress.update_best(score, running.step)
        return validation

    def _measure(
        self, name: str, weights: nnx.State, stage: StageConfig, step: int
    ) -> Validation | None:
        """Validates weights; None if the run was asked to stop meanwhile."""
        config = self._config
        assert config.validation is not None
        options = self._model.retriever_options(
            config.data.lengths,
            max_rows=stage.rollout.max_rows,
            max_thought_tokens=config.validation.max_thought_tokens,
        )
        try:
            validation = validate(
                self._model.retriever(weights, options, self._stop),
                self._data.validation,
                config.validation,
                think=stage.think,
                samples=config.tracking.thoughts,
                candidates=stage.candidates.k,
                stop=self._stop,
            )
        except Interrupted:
            return None
        self._stop.has_progress = True
        self._progress.validations[name] = dict(validation.metrics)
        scores = "  ".join(f"{key[11:]} {value:.4f}" for key, value in validation.metrics.items())
        self._log(f"step {step}: validation  {scores}")
        return validation

    def _remaining_stages(self, meta: Mapping[str, Any]) -> tuple[str, ...]:
        """The stage of the newest checkpoint, even if it is complete, and those after it."""
        folder, running = self._saver.folder.path, self._config.running
        names, name, done = list(self._config.stages), meta["stage"], meta["stage_step"]
        if name not in names:
            raise ConfigError(
                f"{folder} is in stage {name}, which this config does not have",
                hint=f"add that stage to the config again; it has {', '.join(names)}",
            )
        if name not in running and done < self._stage_of(name).steps:
            raise ConfigError(
                f"{folder} is in stage {name}, after {done} of its {self._stage_of(name).steps} "
                "steps, and `run` leaves that stage out",
                hint=f"finish {name} first, or train in another folder",
            )
        earlier, later = names[: names.index(name)], names[names.index(name) + 1 :]
        for other in running:
            if other in earlier and not (folder / "stages" / other).exists():
                raise ConfigError(
                    f"{folder} is in stage {name}; the earlier stage {other} was never run there",
                    hint=f"train {other} in another folder, with the weights to start from as "
                    "model.path",
                )
        return (name, *(other for other in running if other in later))

    def _result(self, steps: int, stopped: str | None) -> TrainResult:
        return TrainResult(
            folder=self._saver.folder.path,
            steps=steps,
            stopped=stopped,
            best=self._progress.best,
            validations=self._progress.validations,
        )
