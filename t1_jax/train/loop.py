"""The loop that every stage runs in, and the curriculum: one stage after another."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from t1_jax.parallel import count_compilations, make_placement
from t1_jax.retriever import T1
from t1_jax.train.config import TrainConfig
from t1_jax.train.exporting import export_weights
from t1_jax.train.learner import Student, load_student, thinking_options
from t1_jax.train.rows import RowMaker
from t1_jax.train.run import (
    Checkpoints,
    GracefulStop,
    Health,
    Meter,
    RunFolder,
    Tracker,
    abstract_like,
    flops_per_token,
    total_peak_flops,
    training_bar,
)
from t1_jax.train.sources import TrainingData, load_training_data, validation_part
from t1_jax.train.stage import Stage, StepReport
from t1_jax.train.validate import Validation, validate

FREE_KEYS = ("max_minutes", "resume", "overwrite", "run")
"""Settings that a run may be taken up with other values of."""

Tell = Callable[[str], None]
"""Says something to the person at the keyboard."""


@dataclass(frozen=True, kw_only=True)
class TrainResult:
    """How a run ended.

    Attributes:
        folder: of the run; `stages/<name>` and `best` in it hold the weights.
        steps: done in all.
        stopped: why it ended before its time; None if it did not.
        best: the best validation score and its step, where there was one.
        validations: by stage, what its last validation measured.
    """

    folder: Path
    steps: int
    stopped: str | None
    best: tuple[float, int] | None
    validations: Mapping[str, Mapping[str, float]]


def train(config: TrainConfig, *, tell: Tell, shown: bool = True) -> TrainResult:
    """Runs the stages of a config, or takes a run up where it stopped.

    Args:
        config: what to do.
        tell: where warnings and milestones go.
        shown: whether to draw progress bars.

    Raises:
        ConfigError: settings that contradict each other or do not fit the devices.
        DataError: training data that cannot be read, or that leaks.
        TrainingBroken: the run went wrong in a way that going on would not mend.
    """
    data = load_training_data(config.data)
    placement = make_placement(config.mesh)
    student = load_student(config.model, placement, seed=config.seed)
    folder = RunFolder(
        config.output,
        config,
        resume=config.resume,
        overwrite=config.overwrite,
        free=FREE_KEYS,
    )
    folder.write_data(data.facts())
    tell(_summary(config, data, student))
    with (
        GracefulStop(config.max_minutes) as stop,
        Checkpoints(folder.checkpoints, config.checkpoints) as checkpoints,
        placement.entered(),
        count_compilations() as compiled,
    ):
        run = _Run(config, data, student, folder, checkpoints, stop, tell, shown=shown)
        result = run.all_stages()
        tell(f"{compiled.count} programs were compiled in {compiled.seconds:.0f} s")
        return result


class _Run:
    """A run in progress."""

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        student: Student,
        folder: RunFolder,
        checkpoints: Checkpoints,
        stop: GracefulStop,
        tell: Tell,
        *,
        shown: bool,
    ) -> None:
        self._config = config
        self._data = data
        self._student = student
        self._folder = folder
        self._checkpoints = checkpoints
        self._stop = stop
        self._tell = tell
        self._shown = shown and jax.process_index() == 0
        self._rows = RowMaker(
            student.tokeniser, student.preset, data.sets, config.data.lengths
        )
        self._held_out = {
            name: validation_part(collection, config.validation)
            for (name, split), collection in data.held_out.items()
            if split == "validation"
        }
        self._identity = {
            "model": student.origin.fingerprint,
            "prompt": student.preset.hash,
            "emb_token": student.tokeniser.emb_token_id,
            "seed": config.seed,
        }
        self._health = Health(config.health)
        self._meter = Meter(total_peak_flops())
        self._validations: dict[str, Mapping[str, float]] = {}
        self._best: tuple[float, int] | None = None

    def all_stages(self) -> TrainResult:
        """Every stage from where the run stands; each starts from the one before."""
        trained = self._student.initial
        latest = self._checkpoints.latest()
        meta = {} if latest is None else self._checkpoints.meta(latest)
        step, names = 0, self._config.running
        if meta:
            names = names[names.index(meta["stage"]) :]
            step = meta["first_step"]
        self._folder.rewind(latest or 0)
        with Tracker(
            self._config.tracking,
            self._folder,
            run_config=asdict(self._config),
            resumed_at=latest or 0,
        ) as tracker:
            for name in names:
                stage = Stage(name, self._config, self._student, self._data.sets, self._rows)
                state, done = stage.start(trained), 0
                if meta:
                    assert latest is not None
                    state, done = self._restored(stage, state, latest, meta), meta["stage_step"]
                    meta = {}
                state, done = self._stage(stage, state, step, done, tracker)
                if done < stage.steps:
                    return self._result(step + done, self._stop.reason or "another process stopped")
                step += stage.steps
                trained = state["train"].best_weights
                export_weights(
                    self._student, trained, self._folder.path / "stages" / name, self._config
                )
        return self._result(step, None)

    def _stage(
        self, stage: Stage, state: dict[str, Any], first: int, done: int, tracker: Tracker
    ) -> tuple[dict[str, Any], int]:
        """Runs a stage to its end, or until the run is asked to stop."""
        self._tell(f"stage {stage.name}: {stage.steps} steps, from step {done}")
        with training_bar(stage.name, stage.steps, done=done, shown=self._shown) as show:
            while done < stage.steps:
                state, report = stage.step(state, first + done)
                done += 1
                metrics = self._measured(stage, report)
                for warning in self._health.check(first + done, metrics):
                    self._tell(f"step {first + done}: {warning}")
                if self._validates(stage, done):
                    metrics |= self._validated(stage, state, first + done)
                if (first + done) % self._config.tracking.every_steps == 0 or done == stage.steps:
                    tracker.log(first + done, metrics)
                if report.samples and done % self._config.sample_every == 0:
                    self._folder.write_thoughts(first + done, report.samples)
                show(done, metrics)
                stopping = self._stop.requested()
                if self._checkpoints.due(first + done) or done == stage.steps or stopping:
                    self._save(stage, state, first, done, metrics)
                if stopping:
                    break
        self._checkpoints.wait()
        return state, done

    def _measured(self, stage: Stage, report: StepReport) -> dict[str, float]:
        work = "train" if self._config.model.lora is None else "lora"
        decoder = self._student.shape
        flops = flops_per_token(decoder, work=work, context=report.context / 2)
        self._meter.add(report.tokens, flops * report.tokens)
        return report.metrics | self._meter.read()

    def _validates(self, stage: Stage, done: int) -> bool:
        every = stage.config.validate_every
        return done == stage.steps or bool(every and done % every == 0)

    def _validated(self, stage: Stage, state: dict[str, Any], step: int) -> dict[str, float]:
        weights = state["train"].best_weights
        found = self._validate(self._thinker(stage, weights), think=stage.config.think)
        self._validations[stage.name] = found.metrics
        self._folder.write_thoughts(step, found.samples)
        value = found.metrics["validation/ndcg@10"]
        if self._best is None or value > self._best[0]:
            self._best = (value, step)
            export_weights(self._student, weights, self._folder.path / "best", self._config)
        told = "  ".join(f"{key[11:]} {value:.4f}" for key, value in found.metrics.items())
        self._tell(f"step {step}: validation  {told}")
        return dict(found.metrics)

    def _validate(self, model: T1, *, think: bool) -> Validation:
        return validate(model, self._held_out, self._config.validation, think=think)

    def _thinker(self, stage: Stage, weights: Any) -> T1:
        options = thinking_options(
            self._config.data.lengths,
            stage.config.rollout,
            budget=self._config.validation.budget,
        )
        return self._student.retriever(weights, options)

    def _save(
        self,
        stage: Stage,
        state: dict[str, Any],
        first: int,
        done: int,
        metrics: Mapping[str, float],
    ) -> None:
        meta = {
            **self._identity,
            "stage": stage.name,
            "first_step": first,
            "stage_step": done,
            "draws": stage.position(),
            "health": self._health.state(),
            "tokens": self._meter.tokens,
            "best": self._best,
        }
        self._checkpoints.save(first + done, state, stage.host_state(), meta, metrics)

    def _restored(
        self, stage: Stage, state: dict[str, Any], step: int, meta: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The state of a checkpoint, and everything else as it was then."""
        found = self._checkpoints.restore(step, abstract_like(state), expect=self._identity)
        stage.restore(meta["draws"], found.host)
        self._health = Health(self._config.health, meta["health"])
        self._meter = Meter(total_peak_flops(), tokens=int(meta["tokens"]))
        self._best = None if meta["best"] is None else (meta["best"][0], meta["best"][1])
        self._tell(f"resumed at step {step}, in stage {stage.name}")
        return found.state

    def _result(self, steps: int, stopped: str | None) -> TrainResult:
        return TrainResult(
            folder=self._folder.path,
            steps=steps,
            stopped=stopped,
            best=self._best,
            validations=self._validations,
        )


def _summary(config: TrainConfig, data: TrainingData, student: Student) -> str:
    sets = ", ".join(f"{each.name} ({len(each.records)} queries)" for each in data.sets)
    leaks = data.leaks
    learning = sum(leaf.size for leaf in jax.tree.leaves(student.initial))
    return (
        f"{config.model.path}: {learning / 1e6:.1f} M of {student.parameters / 1e6:.1f} M "
        f"parameters learn; training on {sets}; taken out: {leaks.exact} queries that a held-out "
        f"split has too, {leaks.near} that are nearly one, {leaks.merged} repeated"
    )
