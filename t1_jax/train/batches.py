"""What supplies the batches of a stage: supervised examples, or rollouts of the model itself."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t1_jax.train.infra import Clock
from t1_jax.train.optimizer import TrainState
from t1_jax.train.step import StepBatch


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class StageState:
    """What a stage keeps on the devices between two steps; checkpoints hold it.

    Attributes:
        train: weights, moments and counters.
        reference: weights of the reference policy; None without a KL term.
        sampler_params: weights that sample the next rollout; None where these are the weights in
            training, that is without prefetch.
    """

    train: TrainState
    reference: nnx.State | None = None
    sampler_params: nnx.State | None = None


class SourceState(TypedDict):
    """What a batch source needs to continue after a restart.

    `position` is JSON: where its examples stand. `arrays` are host arrays, such as the embeddings
    that rewards rank, and how old they are.
    """

    position: dict[str, Any]
    arrays: dict[str, np.ndarray]


@dataclass(frozen=True, kw_only=True, eq=False)
class PreparedBatch:
    """What one step learns from, and what is logged of it.

    Attributes:
        batch: rows and targets.
        metrics: metrics of the thoughts and rewards in it.
        samples: some of its thoughts, for a person to read.
    """

    batch: StepBatch
    metrics: dict[str, float]
    samples: list[dict[str, Any]]


@runtime_checkable
class BatchSource(Protocol):
    """Supplies a stage's batches: `SupervisedBatches` or `RolloutBatches`."""

    def next(self, state: StageState, step: int, clock: Clock) -> PreparedBatch:
        """The batch of a step of the whole run. If it raises, the source is as it was before.

        Only a rollout reads the weights of the stage's state.

        Raises:
            Interrupted: the run was asked to end.
            T1Error: a rollout failed, for example in a reward; on all processes together.
        """
        ...

    def prefetch(self, state: StageState, step: int, clock: Clock) -> AbstractContextManager[None]:
        """Prepares the batch of a step while the body updates the weights, if so configured."""
        ...

    def state_dict(self) -> SourceState:
        """What `load_state_dict` needs; a prefetched batch is not counted as read."""
        ...

    def load_state_dict(self, state: SourceState) -> None:
        """Continues from a state.

        Raises:
            DataError: it belongs to other data.
        """
        ...


def copied(weights: nnx.State) -> nnx.State:
    """A copy of weights that an update would consume."""
    return jax.tree.map(jnp.copy, weights)
