"""A run in progress: one stage after another, each step measured, checked, logged and saved."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
from flax import nnx

from t1_jax.errors import ConfigError, T1Error
from t1_jax.interrupt import Interrupt, Interrupted
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.model import TrainableModel
from t1_jax.train.progress import Progress
from t1_jax.train.run import (
    Checkpoints,
    GracefulStop,
    RunFolder,
    Tracker,
    TrainingAborted,
    abstract_like,
    any_process,
    flops_per_token,
    training_bar,
)
from t1_jax.train.saver import RunSaver
from t1_jax.train.sources import TrainingData
from t1_jax.train.stage import Stage, Stages, StepReport
from t1_jax.train.validate import Validation, validate

Tell = Callable[[str], None]
"""Says something to the person at the keyboard."""

UNTRAINED = "untrained"
"""What a result calls the weights before the first step."""

_State = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended.

    Attributes:
        folder: of the run; `stages/<name>` and `best` in it hold the weights.
        steps: done in all.
        stopped: why it ended before its time; None if it did not.
        best: the best validation score and its step, where there was one.
        validations: by stage, what its last validation measured; `UNTRAINED` before them all
            where the config says `validate_first`.
    """

    folder: Path
    steps: int
    stopped: str | None
    best: tuple[float, int] | None
    validations: Mapping[str, Mapping[str, float]]


class Curriculum:
    """One run of the stages, from where its folder stands to the end.

    Args:
        config: of the run.
        data: that it learns from.
        student: the model that learns.
        stages: what it does.
        folder: where the run tells its story.
        checkpoints: where it is saved.
        stop: asks it to end early.
        tell: where warnings and milestones go.
        identity: of the run, see `TrainableModelFiles.identity`; its checkpoints tell it.
        shown: whether to draw progress bars.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        student: TrainableModel,
        stages: Stages,
        folder: RunFolder,
        checkpoints: Checkpoints,
        stop: GracefulStop,
        tell: Tell,
        *,
        identity: Mapping[str, Any],
        shown: bool,
    ) -> None:
        self._config = config
        self._data = data
        self._student = student
        self._stages = stages
        self._folder = folder
        self._checkpoints = checkpoints
        self._stop = stop
        self._tell = tell
        self._shown = shown
        self._saver = RunSaver(config, data, student, folder, checkpoints, identity=identity)
        self._interrupt = Interrupt(self._must_end)
        # Asked so often that several processes do not stop to agree.
        self._interrupt_alone = Interrupt(lambda: jax.process_count() == 1 and self._must_end())
        self._resumed: _State | None = None
        self._advanced = False  # by a step or a validation, since the run was taken up
        self._failure: OSError | T1Error | None = None  # of what follows a step: it is saved first

    @property
    def _progress(self) -> Progress:
        return self._saver.progress

    def run(self) -> TrainResult:
        """Runs every stage; each starts from the weights of the one before.

        Call it once, inside `placement.activate()`.

        Raises:
            ConfigError: the newest checkpoint is of a stage that `run` leaves out, unfinished.
            WeightsError: it is damaged.
            TrainingAborted: see `Health`.
            RetryableError: a disk, a tracker or a reward failed; the run is saved up to there.
        """
        latest = self._checkpoints.latest()
        meta = {} if latest is None else self._checkpoints.meta(latest)
        todo = self._todo(meta)
        if latest is not None:
            stage = self._stages[todo[0]]
            self._resumed = self._restored(stage, self._student.initial, latest, meta)
        # Nothing refuses to go on from here.
        self._folder.take_up()
        self._folder.rewind(-1 if latest is None else latest)
        with Tracker(
            self._config.tracking,
            self._folder,
            run_config=asdict(self._config),
            resumed_at=latest or 0,
        ) as tracker:
            try:
                return self._all(todo, latest, meta, tracker)
            except (OSError, T1Error) as error:
                # Other kinds of T1Error are told as they are: trying again would not help.
                if isinstance(error, OSError) or type(error) is T1Error:
                    raise self._saver.retryable(error) from error
                raise

    def _all(
        self, todo: tuple[str, ...], latest: int | None, meta: Mapping[str, Any], tracker: Tracker
    ) -> TrainResult:
        weights, first = self._student.initial, 0
        state, self._resumed = self._resumed, None
        if latest is None and self._config.validate_first:
            stage = self._stages[todo[0]]
            if found := self._measure(UNTRAINED, weights, stage.config):
                self._folder.write_thoughts(0, found.samples)
                tracker.log(0, found.metrics)
        for name in todo:
            stage, done = self._stages[name], 0
            if latest is not None and state is not None:
                first, done = meta["first_step"], meta["stage_step"]
                owed = self._progress.owes_validation
                if owed and (found := self._validated(stage, state, latest)):
                    self._folder.write_thoughts(latest, found.samples)
                    tracker.log(latest, found.metrics)
                    self._saver.save(stage, state, first, done, found.metrics, replace=True)
                # Also where the run ended between a checkpoint and the export of its weights.
                self._saver.export_best(stage, state, latest)
            else:
                state = stage.start(weights)
            state, done = self._stage(stage, state, first, done, tracker)
            first += done
            finished = done >= stage.steps and not self._progress.owes_validation
            if self._stop.requested() and not (finished and name == todo[-1]):
                return self._result(first, self._stop.reason or "another process was stopped")
            weights = state["train"].best_weights
            # The moments of this stage go before those of the next one come.
            state = None
            self._saver.export(weights, f"stages/{name}", self._progress.validations.get(name, {}))
        return self._result(first, None)

    def _todo(self, meta: Mapping[str, Any]) -> tuple[str, ...]:
        """The stages to run; the first is that of the newest checkpoint, were it but to load it."""
        running = self._config.running
        if not meta:
            return running
        names, name, done = list(self._config.stages), meta["stage"], meta["stage_step"]
        if name not in names:
            raise ConfigError(
                f"{self._folder.path} stands in stage {name}, which this config does not have",
                hint=f"take that stage back into the config; it has {', '.join(names)}",
            )
        if name not in running and done < self._stages[name].steps:
            raise ConfigError(
                f"{self._folder.path} stands in stage {name}, after {done} of its "
                f"{self._stages[name].steps} steps, and `run` leaves that stage out",
                hint=f"run {name} to its end first, or train in another folder",
            )
        earlier, later = names[: names.index(name)], names[names.index(name) + 1 :]
        for other in running:
            if other in earlier and not (self._folder.path / "stages" / other).exists():
                raise ConfigError(
                    f"{self._folder.path} stands in stage {name}, and {other}, which was never "
                    "run there, comes before it",
                    hint="train it in another folder, with the weights to begin with as model.path",
                )
        return (name, *(other for other in running if other in later))

    def _stage(
        self, stage: Stage, state: _State, first: int, done: int, tracker: Tracker
    ) -> tuple[_State, int]:
        """Runs a stage to its end, or until the run is asked to stop."""
        if done < stage.steps:
            self._tell(f"stage {stage.name}: {done} of {stage.steps} steps done")
        metrics: dict[str, float] = {}
        with training_bar(stage.name, stage.steps, done=done, shown=self._shown) as show:
            while done < stage.steps:
                self._progress.meter.read()  # validations and saving are not a step's time
                try:
                    state, report = stage.step(state, first + done, self._interrupt_alone)
                except Interrupted:
                    if done:  # the stage before has saved its end
                        self._saver.save(stage, state, first, done, metrics)
                    break
                except Exception as error:
                    if done:
                        self._saver.rescue(stage, state, first, done, metrics, error)
                    raise
                done += 1
                self._advanced = True
                step, at_end = first + done, done == stage.steps
                self._progress.steps[stage.name] = done
                metrics, samples = self._measured(report), self._samples(report, done)
                due, found = self._is_validated(stage, done), None
                self._progress.owes_validation = due
                try:
                    self._check_health(step, metrics, report, tracker)
                except TrainingAborted as broken:
                    if broken.is_sound:
                        self._saver.rescue(stage, state, first, done, metrics, broken)
                    raise
                if due:
                    with self._failure_kept():
                        found = self._validated(stage, state, step)
                if found is not None:
                    metrics, samples = {**metrics, **found.metrics}, [*samples, *found.samples]
                with self._failure_kept():
                    if found or at_end or step % self._config.tracking.every_steps == 0:
                        tracker.log(step, metrics)
                    if samples:
                        self._folder.write_thoughts(step, samples)
                show(done, metrics)
                failed = any_process(self._failure is not None)
                stopping = failed or self._stop.requested()
                if self._checkpoints.due(step) or due or stopping:
                    self._saver.save(stage, state, first, done, metrics)
                if self._failure is not None:
                    raise self._failure
                if found is not None:
                    self._saver.export_best(stage, state, step)
                if stopping:
                    break
        self._checkpoints.wait()
        self._folder.drop_overwritten()
        return state, done

    def _must_end(self) -> bool:
        """Whether work under way is dropped since the run was asked to stop; all processes agree.

        A signal may be the last word before a machine is gone. A deadline is no reason before
        anything was done: the next session would not come further either, nor the one after it.
        """
        return self._stop.requested() and (self._advanced or self._stop.by_signal())

    def _measured(self, report: StepReport) -> dict[str, float]:
        work = "train" if self._student.lora is None else "lora"
        flops = flops_per_token(
            self._student.shape, work=work, context=report.context / 2, read=report.read
        )
        self._progress.meter.add(report.tokens, flops * report.tokens)
        return report.metrics | self._progress.meter.read()

    def _samples(self, report: StepReport, done: int) -> list[dict[str, Any]]:
        return report.samples if done % self._config.sample_every == 0 else []

    def _check_health(
        self, step: int, metrics: Mapping[str, float], report: StepReport, tracker: Tracker
    ) -> None:
        """Tells of what is wrong; where the run is broken, its last step is still on record."""
        try:
            warnings = self._progress.health.check(step, metrics)
        except TrainingAborted:
            tracker.log(step, metrics)
            self._folder.write_thoughts(step, report.samples)
            raise
        for warning in warnings:
            self._tell(f"warning: {warning}")

    def _is_validated(self, stage: Stage, done: int) -> bool:
        every = stage.config.validate_every
        return done == stage.steps or bool(every and done % every == 0)

    def _validated(self, stage: Stage, state: _State, step: int) -> Validation | None:
        """Measures on held-out queries; None if the run was asked to stop meanwhile."""
        found = self._measure(stage.name, state["train"].best_weights, stage.config, step)
        self._progress.owes_validation = found is None
        if found is None:
            return None
        for warning in self._progress.health.check(step, found.metrics):
            self._tell(f"warning: {warning}")
        self._progress.beats_best(found.metrics[self._config.checkpoints.metric], step)
        return found

    @contextmanager
    def _failure_kept(self) -> Iterator[None]:
        """Keeps the failure of what follows a step, so that the step is saved before it is told."""
        try:
            yield
        except TrainingAborted:
            raise
        except (OSError, T1Error) as error:
            self._failure = self._failure or error

    def _measure(
        self, name: str, weights: nnx.State, stage: StageConfig, step: int = 0
    ) -> Validation | None:
        """The validation score of weights; None if the run was asked to stop meanwhile."""
        config = self._config
        options = self._student.thinking_options(
            config.data.lengths,
            max_rows=stage.rollout.max_rows,
            max_thought_tokens=config.validation.max_thought_tokens,
        )
        try:
            found = validate(
                self._student.retriever(weights, options, self._interrupt_alone),
                self._data.validation,
                config.validation,
                think=stage.think,
                samples=config.tracking.thoughts,
                check=self._interrupt.check,
            )
        except Interrupted:
            return None
        self._advanced = True
        self._progress.validations[name] = dict(found.metrics)
        told = "  ".join(f"{key[11:]} {value:.4f}" for key, value in found.metrics.items())
        self._tell(f"step {step}: validation  {told}")
        return found

    def _restored(
        self, stage: Stage, initial: nnx.State, step: int, meta: Mapping[str, Any]
    ) -> _State:
        """The state of a checkpoint, and everything else as it was then."""
        abstract = abstract_like(stage.start(initial))
        for leaf in jax.tree.leaves(initial):
            leaf.delete()  # others take their place; they would lie in memory for the whole run
        found = self._checkpoints.restore(step, abstract)
        stage.restore(meta["draws"], found.host)
        self._saver.progress = Progress.restored(self._config.health, meta)
        self._tell(f"resumed at step {step}, in stage {stage.name}")
        return found.state

    def _result(self, steps: int, stopped: str | None) -> TrainResult:
        return TrainResult(
            folder=self._folder.path,
            steps=steps,
            stopped=stopped,
            best=self._progress.best,
            validations=self._progress.validations,
        )
