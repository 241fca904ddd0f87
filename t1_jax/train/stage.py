"""One stage at work: its stream of queries, its batches, its optimizer, and what resuming needs."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t1_jax.errors import DataError, T1Error, UnsupportedError
from t1_jax.interrupt import Interrupt
from t1_jax.seeds import stable_hash
from t1_jax.train.clock import Clock
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import StageDataConfig, TrainingSet, epoch_steps, iterate_batches
from t1_jax.train.model import TrainableModel
from t1_jax.train.optimizer import Optimizer, TrainState
from t1_jax.train.own_thoughts import OwnThoughts
from t1_jax.train.prefetch import Drawn, RolloutPrefetch
from t1_jax.train.rollout import rollout_samples
from t1_jax.train.rows import RowMaker
from t1_jax.train.run import any_process
from t1_jax.train.sources import TrainingData
from t1_jax.train.step import StepBatch, step_log_probs, train_step, with_columns
from t1_jax.train.supervised import Supervised

SKIPPED = ("skipped_updates", "skipped_in_a_row")
"""Counts that the optimizer keeps over a stage."""

_SAMPLED_QUERIES = 4


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did.

    Attributes:
        metrics: to log.
        tokens: read, padding not counted, in all updates of the step.
        context: mean length of the rows read.
        read: share of the tokens whose logits losses read.
        samples: thoughts, where any were drawn.
    """

    metrics: dict[str, float]
    tokens: int
    context: float
    read: float
    samples: list[dict[str, Any]]


class Stage:
    """Supplies batches and losses to the one training step, and holds a stage's state.

    Args:
        name: of the stage.
        config: of the run.
        student: the model that learns.
        sets: queries are drawn from.
        rows: lays rows out.

    Raises:
        ConfigError: batches that the data cannot fill.
        UnsupportedError: rollouts in advance on several devices.
        DataError: thoughts to imitate, and none there.
    """

    def __init__(
        self,
        name: str,
        config: TrainConfig,
        student: TrainableModel,
        sets: Sequence[TrainingSet],
        rows: RowMaker,
    ) -> None:
        self.name = name
        self.config: StageConfig = config.stages[name]
        self._student = student
        sets = _with_thought(sets, self.config.fixed_thought)
        examples = _draw_config(self.config, stable_hash(config.seed, name, "examples"))
        _check_thoughts(name, self.config, examples, sets)
        self._draws = iterate_batches(sets, examples)
        self.steps = _steps(self.config, epoch_steps(sets, examples))
        self._updates = self.config.rollout.num_iterations if self.config.draws_thoughts else 1
        self.optimizer = Optimizer(self.config.optimizer, self.steps * self._updates)
        self._supervised, self._own = None, None
        if self.config.rollout.prefetch and student.mesh_context.mesh.size > 1:
            raise UnsupportedError(
                f"stage {name}: rollout.prefetch runs two programs at once, which several devices "
                "may take up in different orders and then wait for each other for ever",
                hint="set rollout.prefetch=false, or train on one device",
            )
        self._prefetch = RolloutPrefetch(self._drawn, student.mesh_context)
        self._position_before: dict[str, Any] | None = None
        if self.config.draws_thoughts:
            self._own = OwnThoughts(
                self.config,
                rows,
                sets,
                student,
                config.data.lengths,
                seed=stable_hash(config.seed, name, "thoughts"),
            )
        else:
            self._supervised = Supervised(self.config, rows, sets, student.mesh_context)

    def start(self, trained: nnx.State) -> dict[str, Any]:
        """The stage's state before its first step; takes the weights over."""
        needs_reference = self.config.losses.policy and self.config.policy.resolved().beta > 0
        prefetches = self.config.draws_thoughts and self.config.rollout.prefetch
        # Under adapters these are copies of the adapters alone.
        return {
            "reference": jax.tree.map(jnp.copy, trained) if needs_reference else None,
            # What the next rollout is drawn by, where that is not what is learnt.
            "drawing": jax.tree.map(jnp.copy, trained) if prefetches else None,
            "train": self.optimizer.start(trained),
        }

    def position(self) -> dict[str, Any]:
        """Where the stream of queries stands, as JSON; what was drawn in advance is not counted."""
        if self._prefetch.is_ready and self._position_before is not None:
            return self._position_before
        return self._draws.get_state()

    def host_state(self) -> dict[str, np.ndarray]:
        """Arrays that resuming needs beside the weights."""
        return {} if self._own is None else self._own.state()

    def restore(self, position: Mapping[str, Any], host: Mapping[str, np.ndarray]) -> None:
        """Takes up what `position` and `host_state` gave.

        Raises:
            DataError: they belong to other data.
        """
        self._draws.set_state(position)
        if self._own is not None:
            self._own.load_state(host)

    def step(
        self,
        state: dict[str, Any],
        step: int,
        check: Interrupt | None = None,
    ) -> tuple[dict[str, Any], StepReport]:
        """One step of the stage: a batch, or a rollout with its updates. Consumes the state.

        Args:
            state: as `start` gave it, or the step before.
            step: of the whole run.
            check: ends a rollout early. If it raises `Interrupted`, so does the step; a
                rollout in advance is then drawn again.

        Raises:
            Interrupted: `check` raised it.
            T1Error: the rollout failed, for example in a reward; on all processes together.

        Either has left no trace, neither in the state nor in the stream of queries.
        """
        clock = Clock()
        metrics: dict[str, float] = {}
        samples: list[dict[str, Any]] = []
        train: TrainState = state["train"]
        if self._own is not None:
            batch, metrics, samples = self._rollout(self._own, state, step, clock, check)
        else:
            assert self._supervised is not None
            with clock.of("data"):
                batch = self._supervised.prepare(next(self._draws))
        drawing = state["drawing"]
        if drawing is not None:
            drawing = jax.tree.map(jnp.copy, train.trained)
        with self._next_rollout(train, drawing, step + 1, clock, check), clock.of("update"):
            train, of_updates = self._updated(train, batch)
        if "loss/policy" in of_updates:
            # The weight is in its tokens; like other losses it is told without.
            of_updates["loss/policy"] /= self.config.losses.policy
        metrics = metrics | of_updates | clock.seconds
        metrics["loss"] = self._total(metrics)
        metrics["action_tokens"] = float(batch.action_tokens)
        metrics["truncated_thoughts"] = float(batch.truncated_thoughts)
        return {**state, "train": train, "drawing": drawing}, StepReport(
            metrics=metrics,
            tokens=batch.tokens * self._updates,
            context=_mean_length(batch),
            read=batch.action_tokens / max(batch.tokens, 1),
            samples=samples,
        )

    def _rollout(
        self,
        own: OwnThoughts,
        state: Mapping[str, Any],
        step: int,
        clock: Clock,
        check: Interrupt | None,
    ) -> tuple[StepBatch, dict[str, float], list[dict[str, Any]]]:
        """What to learn from thoughts, measures of them, and some of them."""
        by = state["train"].trained if state["drawing"] is None else state["drawing"]
        before = self._draws.get_state()
        drawn, failure = None, None
        try:
            drawn = self._prefetch.take(by, step, check)
        except T1Error as error:
            failure = error
        except Exception:
            self._draws.set_state(before)
            raise
        failed = any_process(drawn is None)
        if drawn is None or failed:
            self._draws.set_state(before)
            raise failure or T1Error("the rollout failed in another process")
        clock.seconds |= drawn.clock.seconds
        rollout = drawn.rollout
        with clock.of("data"):
            batch = own.batch(rollout)
        if state["reference"] is not None:
            with clock.of("reference"):
                under = step_log_probs(self._student.learner, state["reference"], batch)
                batch = with_columns(batch, "reference", under)
        return batch, drawn.metrics, rollout_samples(rollout, _SAMPLED_QUERIES)

    def _drawn(self, weights: nnx.State, step: int, check: Interrupt | None) -> Drawn:
        """The rollout of a step by these weights."""
        assert self._own is not None
        clock = Clock()
        rollout, metrics = self._own.rollout(self._draws, weights, step, clock, check)
        return Drawn(rollout=rollout, metrics=metrics, clock=clock)

    @contextmanager
    def _next_rollout(
        self,
        train: TrainState,
        drawing: nnx.State | None,
        step: int,
        clock: Clock,
        check: Interrupt | None,
    ) -> Iterator[None]:
        """Draws the next rollout while the body learns, if there is a next one in this stage."""
        ends = self.steps * self._updates
        if drawing is None or int(np.asarray(train.step)) + self._updates >= ends:
            yield
            return
        self._position_before = self._draws.get_state()
        with self._prefetch.drawing(drawing, step, check):
            yield
            learnt = time.perf_counter()
        if not self._prefetch.is_ready:
            self._draws.set_state(self._position_before)
        clock.seconds["time/wait"] = time.perf_counter() - learnt

    def _updated(self, train: TrainState, batch: StepBatch) -> tuple[TrainState, dict[str, float]]:
        """As many updates as the rollout allows; the first one fixes the policy before them."""
        learner = self._student.learner
        train, metrics, log_probs = train_step(learner, self.optimizer, train, batch)
        if self._updates == 1:
            return train, metrics
        objective = replace(batch.objective, on_policy=False)
        batch = replace(with_columns(batch, "old", log_probs), objective=objective)
        found = [metrics]
        for _ in range(self._updates - 1):
            train, metrics, _ = train_step(learner, self.optimizer, train, batch)
            found.append(metrics)
        return train, _over_updates(found)

    def _total(self, metrics: Mapping[str, float]) -> float:
        losses = self.config.losses
        return float(
            sum(weight * metrics.get(f"loss/{name}", 0.0) for name, weight in vars(losses).items())
        )


class Stages:
    """The stages of a run, made from its config as they are asked for.

    Args:
        config: of the run.
        data: that it learns from.
        student: the model that learns.
        rows: lays rows out.

    Raises:
        ConfigError: batches that the data cannot fill.
        DataError: thoughts to learn from, and none there.
    """

    def __init__(
        self, config: TrainConfig, data: TrainingData, student: TrainableModel, rows: RowMaker
    ) -> None:
        self._config = config
        self._data = data
        self._student = student
        self._rows = rows
        self._made: dict[str, Stage] = {}
        # All at once, so that none is refused after those before it have run.
        for name in config.running:
            self[name]

    def __getitem__(self, name: str) -> Stage:
        """The stage of this name in the config."""
        if name not in self._made:
            self._made[name] = Stage(name, self._config, self._student, self._data.sets, self._rows)
        return self._made[name]


def _over_updates(found: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the updates of a rollout; `rollout/...` are of the first, whose policy drew it.

    Counts of skipped updates are those after the last one.
    """
    means = {
        name: value
        if name.startswith("rollout/")
        else float(np.mean([metrics[name] for metrics in found]))
        for name, value in found[0].items()
    }
    return means | {name: found[-1][name] for name in SKIPPED}


def _draw_config(config: StageConfig, seed: int) -> StageDataConfig:
    """The stage's draws under a seed of its own, without thoughts where they are not read."""
    reads_thoughts = (
        config.losses.sft
        or config.contrast_reference_thoughts
        or (config.think and not config.draws_thoughts)
    )
    return replace(
        config.data,
        seed=stable_hash(seed, config.data.seed),
        thoughts=config.data.thoughts if reads_thoughts else "none",
    )


def _with_thought(sets: Sequence[TrainingSet], thought: str | None) -> tuple[TrainingSet, ...]:
    """The sets with one thought for all queries, where there is one."""
    if thought is None:
        return tuple(sets)
    return tuple(
        replace(
            each, records=tuple(replace(record, thoughts=(thought,)) for record in each.records)
        )
        for each in sets
    )


def _check_thoughts(
    name: str, config: StageConfig, data: StageDataConfig, sets: Sequence[TrainingSet]
) -> None:
    if not (config.losses.sft or config.contrast_reference_thoughts):
        return
    if data.thoughts == "none" or not any(
        record.thoughts for each in sets for record in each.records
    ):
        raise DataError(
            f"stage {name} learns from given thoughts, and no record gives it one",
            hint="write thoughts with `t1 thoughts`, let data.thoughts be optional or required, "
            "or set losses.sft=0 and contrast_reference_thoughts=false",
        )


def _steps(config: StageConfig, per_epoch: int) -> int:
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return max(math.ceil(config.epochs * per_epoch), 1)


def _mean_length(batch: StepBatch) -> float:
    rows = sum(int((placed.rows >= 0).sum()) for placed in batch.micro)
    return batch.tokens / max(rows, 1)
