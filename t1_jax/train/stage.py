"""One stage at work: its stream of queries, its batches, its optimiser, and what resuming needs."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t1_jax.errors import UnsupportedError
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import TrainingSet, draw_batches, epoch_steps
from t1_jax.train.learner import Student
from t1_jax.train.optimiser import Optimiser, TrainState
from t1_jax.train.reinforce import Clock, Reinforced, sample_of
from t1_jax.train.rows import RowMaker
from t1_jax.train.step import (
    StepBatch,
    step_log_probs,
    train_step,
    with_columns,
)
from t1_jax.train.supervised import Supervised


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did.

    Attributes:
        metrics: to log.
        tokens: read, padding not counted, in all updates of the step.
        context: mean length of the rows read.
        samples: thoughts, where any were drawn.
    """

    metrics: dict[str, float]
    tokens: int
    context: float
    samples: list[dict[str, object]]


class Stage:
    """Supplies batches and losses to the one training step, and holds a stage's state."""

    def __init__(
        self,
        name: str,
        config: TrainConfig,
        student: Student,
        sets: Sequence[TrainingSet],
        rows: RowMaker,
    ) -> None:
        self.name = name
        self.config: StageConfig = config.stages[name]
        self._student = student
        draws = replace(
            self.config.draws,
            seed=config.seed * 1009 + self.config.draws.seed,
            thoughts=self.config.draws.thoughts
            if self.config.think and not self.config.losses.policy
            else "none",
        )
        self._draws = draw_batches(sets, draws)
        self.steps = _steps(self.config, epoch_steps(sets, draws))
        self.optimiser = Optimiser(self.config.optimiser, self.steps)
        self._supervised, self._reinforced = None, None
        if self.config.losses.policy:
            _refuse_many_processes(name)
            self._reinforced = Reinforced(
                self.config,
                rows,
                sets,
                student,
                config.data.lengths,
                seed=config.seed * 1009 + list(config.stages).index(name),
            )
        else:
            self._supervised = Supervised(self.config, rows, sets, student.placement)
        self._needs_reference = (
            self.config.losses.policy > 0 and self.config.policy.resolved().beta > 0
        )

    def start(self, trained: nnx.State) -> dict[str, Any]:
        """The stage's state before its first step; takes the weights over."""
        # Under adapters the reference is a copy of the adapters alone.
        reference = jax.tree.map(jnp.copy, trained) if self._needs_reference else None
        return {"train": self.optimiser.start(trained), "reference": reference}

    def position(self) -> dict[str, Any]:
        """Where the stream of queries stands, as JSON."""
        return self._draws.get_state()

    def host_state(self) -> dict[str, np.ndarray]:
        """Arrays that resuming needs beside the weights."""
        return {} if self._reinforced is None else self._reinforced.state()

    def restore(self, position: Mapping[str, Any], host: Mapping[str, np.ndarray]) -> None:
        """Takes up what `position` and `host_state` gave."""
        self._draws.set_state(position)
        if self._reinforced is not None and host:
            self._reinforced.load_state(host)

    def step(self, state: dict[str, Any], step: int) -> tuple[dict[str, Any], StepReport]:
        """One step of the stage: a batch, or a rollout with its updates. Consumes the state."""
        clock = Clock()
        train: TrainState = state["train"]
        measures, samples, updates = {}, [], 1
        if self._reinforced is not None:
            rollout, measures = self._reinforced.rollout(
                self._draws.__next__, train.trained, step, clock
            )
            samples = sample_of(rollout, queries=4)
            updates = self.config.rollout.updates
            with clock.of("data"):
                batch = self._reinforced.batch(rollout)
            if state["reference"] is not None:
                with clock.of("reference"):
                    under = step_log_probs(self._student.learner, state["reference"], batch)
                    batch = with_columns(batch, "reference", under)
        else:
            assert self._supervised is not None
            with clock.of("data"):
                batch = self._supervised.prepare(next(self._draws))
        with clock.of("update"):
            train, metrics = self._update(train, batch, updates)
        metrics |= measures | clock.seconds
        metrics["loss"] = self._total(metrics)
        return {**state, "train": train}, StepReport(
            metrics=metrics,
            tokens=batch.tokens * updates,
            context=_mean_length(batch),
            samples=samples,
        )

    def _update(
        self, train: TrainState, batch: StepBatch, updates: int
    ) -> tuple[TrainState, dict[str, float]]:
        """As many updates as the rollout allows; the first one fixes the policy before them."""
        learner = self._student.learner
        train, metrics, log_probs = train_step(learner, self.optimiser, train, batch)
        if updates > 1:
            objective = replace(batch.objective, on_policy=False)
            batch = replace(with_columns(batch, "old", log_probs), objective=objective)
        for _ in range(updates - 1):
            train, metrics, _ = train_step(learner, self.optimiser, train, batch)
        return train, metrics

    def _total(self, metrics: Mapping[str, float]) -> float:
        losses = self.config.losses
        weighted = {"sft": losses.sft, "infonce": losses.infonce, "triplet": losses.triplet}
        total = sum(weight * metrics.get(f"loss/{name}", 0.0) for name, weight in weighted.items())
        return total + metrics.get("loss/policy", 0.0)


def _steps(config: StageConfig, per_epoch: int) -> int:
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return max(math.ceil(config.epochs * per_epoch), 1)


def _mean_length(batch: StepBatch) -> float:
    rows = sum(int((placed.rows >= 0).sum()) for placed in batch.micro)
    return batch.tokens / max(rows, 1)


def _refuse_many_processes(name: str) -> None:
    if jax.process_count() > 1:
        raise UnsupportedError(
            f"stage {name} draws thoughts, which runs in one process so far, and there are "
            f"{jax.process_count()}",
            mend="run it on one host; the stages that draw none run on several",
        )
