"""One stage: a source of batches and the training step that learns from them."""

import functools
import math
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from flax import nnx

from t1_jax.interrupt import Interrupt
from t1_jax.seeds import stable_hash
from t1_jax.train.batches import BatchSource, SourceState, StageState, copied
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import BatchIterator, StageDataConfig, TrainingSet, epoch_steps
from t1_jax.train.infra import Clock
from t1_jax.train.model import TrainableModel
from t1_jax.train.objective import TokenObjective
from t1_jax.train.optimizer import Optimizer, TrainState
from t1_jax.train.prompt_candidates import PromptCandidates
from t1_jax.train.rollout import RolloutBatches
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.step import Objective, StepBatch, train_step
from t1_jax.train.supervised import SupervisedBatches

COUNTERS = ("skipped_updates", "skipped_in_a_row")
"""Metrics that the optimizer counts over a stage."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What a step did.

    Attributes:
        metrics: metrics to log.
        tokens: number of tokens in all updates of the step, padding not counted.
        mean_row_tokens: mean length of the rows.
        target_frac: share of the tokens whose logits the losses read.
        samples: thoughts for a person to read, where any were sampled.
    """

    metrics: dict[str, float]
    tokens: int
    mean_row_tokens: float
    target_frac: float
    samples: list[dict[str, Any]]


class Stage:
    """A stage of a run.

    Attributes:
        name: name of the stage in the config.
        config: config of the stage.
        steps: number of steps.
        interrupt: ends a rollout early.

    Raises:
        ConfigError: the data cannot fill the batches.
    """

    def __init__(
        self,
        name: str,
        config: TrainConfig,
        model: TrainableModel,
        sets: Sequence[TrainingSet],
        rows: RowBuilder,
        interrupt: Interrupt,
    ) -> None:
        self.name = name
        self.interrupt = interrupt
        self.config: StageConfig = config.stages[name]
        self._parts = model.parts
        sets = _with_fixed_thought(sets, self.config.fixed_thought)
        data = _data_config(self.config, stable_hash(config.seed, name, "examples"))
        examples = BatchIterator(sets, data)
        self.steps = _num_steps(self.config, epoch_steps(sets, data))
        self._num_iterations = (
            self.config.rollout.num_iterations if self.config.draws_thoughts else 1
        )
        self.optimizer = Optimizer(self.config.optimizer, self.steps * self._num_iterations)
        self._objective = stage_objective(self.config)
        self.batches: BatchSource
        if self.config.draws_thoughts:
            self.batches = RolloutBatches(
                self.config,
                examples,
                sets,
                rows,
                model,
                config.data.lengths,
                seed=stable_hash(config.seed, name, "thoughts"),
                interrupt=interrupt,
                num_logged=config.tracking.rollouts,
            )
        else:
            self.batches = SupervisedBatches(
                self.config,
                examples,
                sets,
                rows,
                model.mesh_context,
                prompts=self._prompts(config, model, sets, rows),
                retriever=functools.partial(
                    model.retriever,
                    options=model.retriever_options(
                        config.data.lengths, max_rows=1, max_thought_tokens=1
                    ),
                    interrupt=interrupt,
                ),
            )

    def _prompts(
        self,
        config: TrainConfig,
        model: TrainableModel,
        sets: Sequence[TrainingSet],
        rows: RowBuilder,
    ) -> PromptCandidates | None:
        if not self.config.candidates.k:
            return None
        seed = stable_hash(config.seed, self.name, "candidates")
        return PromptCandidates(self.config, sets, rows.tokenizer, model, seed=seed)

    def start(self, trained: nnx.State) -> StageState:
        """The state before the first step. Consumes the weights."""
        has_kl = self.config.losses.policy and self.config.policy.resolved().beta > 0
        prefetches = self.config.draws_thoughts and self.config.rollout.prefetch
        # Under LoRA these are copies of the adapters alone.
        return StageState(
            reference=copied(trained) if has_kl else None,
            sampler_params=copied(trained) if prefetches else None,
            train=self.optimizer.start(trained),
        )

    def step(self, state: StageState, number: int) -> tuple[StageState, StepReport]:
        """One step: a batch and its update, or a rollout and its updates. Consumes the state.

        `number` counts the steps of the whole run.

        Raises:
            Interrupted: the run was asked to end during a rollout.
            T1Error: the rollout failed, for example in a reward; on all processes together.

        After either, state and batches are as they were before.
        """
        clock = Clock()
        prepared = self.batches.next(state, number, clock)
        batch = prepared.batch
        if state.sampler_params is not None:
            # The update consumes the weights that sample the next rollout.
            state = replace(state, sampler_params=copied(state.train.trained))
        prefetch = nullcontext()
        if not self._is_last(state.train):
            prefetch = self.batches.prefetch(state, number + 1, clock)
        with prefetch, clock.of("update"):
            train, step_metrics = self._update(state.train, batch)
        metrics = prepared.metrics | step_metrics | clock.seconds
        metrics["loss"] = _weighted_loss(step_metrics, vars(self.config.losses))
        metrics["target_tokens"] = float(batch.num_targets)
        metrics["truncated_thoughts"] = float(batch.truncated_thoughts)
        return replace(state, train=train), StepReport(
            metrics=metrics,
            tokens=batch.num_tokens * self._num_iterations,
            mean_row_tokens=batch.num_tokens / max(batch.num_rows, 1),
            target_frac=batch.num_targets / max(batch.num_tokens, 1),
            samples=prepared.samples,
        )

    def state_dict(self) -> SourceState:
        """What resuming needs besides the `StageState`."""
        return self.batches.state_dict()

    def load_state_dict(self, state: SourceState) -> None:
        """Continues from `state_dict()`.

        Raises:
            DataError: it belongs to other data.
        """
        self.batches.load_state_dict(state)

    def _is_last(self, train: TrainState) -> bool:
        updates = int(np.asarray(train.step)) + self._num_iterations
        return updates >= self.steps * self._num_iterations

    def _update(self, train: TrainState, batch: StepBatch) -> tuple[TrainState, dict[str, float]]:
        """The updates from one batch; the policy before the first one is the old policy."""
        parts, objective = self._parts, self._objective
        train, metrics, logps = train_step(parts, self.optimizer, objective, train, batch)
        if self._num_iterations == 1:
            return train, metrics
        objective = replace(objective, tokens=replace(objective.tokens, on_policy=False))
        batch = batch.with_logps(old=logps)
        by_update = [metrics]
        for _ in range(self._num_iterations - 1):
            train, metrics, _ = train_step(parts, self.optimizer, objective, train, batch)
            by_update.append(metrics)
        return train, _mean_metrics(by_update)


def stage_objective(config: StageConfig) -> Objective:
    """The objective of a stage: what is constant over its steps."""
    tokens = TokenObjective()
    if config.losses.policy:
        tokens = TokenObjective(policy=config.policy, temperature=config.rollout.temperature)
    return Objective(
        weights=config.losses,
        tokens=tokens,
        contrastive=config.contrastive,
        keep_residuals=config.micro_batch.keep_residuals,
    )


def _weighted_loss(metrics: Mapping[str, float], weights: Mapping[str, float]) -> float:
    """The step's loss, of the unweighted losses that were logged."""
    return float(sum(weight * metrics.get(f"loss/{name}", 0.0) for name, weight in weights.items()))


def _mean_metrics(by_update: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Means over the updates of a rollout.

    `rollout/...` are of the first update, whose policy sampled it; counters of the last one.
    """
    means = {
        name: value
        if name.startswith("rollout/")
        else float(np.mean([metrics[name] for metrics in by_update]))
        for name, value in by_update[0].items()
    }
    return means | {name: by_update[-1][name] for name in COUNTERS}


def _data_config(config: StageConfig, seed: int) -> StageDataConfig:
    """The stage's data config under a seed of its own, without thoughts that are not read."""
    return replace(
        config.data,
        seed=stable_hash(seed, config.data.seed),
        thoughts=config.data.thoughts if config.uses_reference_thoughts else "none",
    )


def _with_fixed_thought(
    sets: Sequence[TrainingSet], thought: str | None
) -> tuple[TrainingSet, ...]:
    """The sets with one reference thought for all queries, if there is one."""
    if thought is None:
        return tuple(sets)
    return tuple(
        replace(
            training_set,
            records=tuple(replace(record, thoughts=(thought,)) for record in training_set.records),
        )
        for training_set in sets
    )


def _num_steps(config: StageConfig, per_epoch: int) -> int:
    if config.steps is not None:
        return config.steps
    assert config.epochs is not None
    return max(math.ceil(config.epochs * per_epoch), 1)
