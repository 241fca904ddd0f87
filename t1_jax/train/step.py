"""One training step, the same for all stages: micro-batches in, new weights out.

Token losses are sums whose denominators are known before anything runs, and vector losses reach
the micro-batches as one gradient for each vector; so the number and the order of micro-batches,
devices and hosts change a step by no more than rounding.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext, global_to_host
from t1_jax.train.batch import GlobalBatch
from t1_jax.train.contrast import ContrastPlan, ContrastWeights, contrast, rows_of
from t1_jax.train.losses import ContrastiveConfig
from t1_jax.train.objective import (
    TokenObjective,
    add_gradients,
    hold,
    log_probs_of,
    pull,
    vectors_of,
)
from t1_jax.train.optimizer import Optimizer, TrainState


@dataclass(frozen=True, kw_only=True, eq=False)
class StepBatch:
    """All that one step learns from.

    Attributes:
        micro: rows in pieces.
        objective: of the action tokens.
        plan: which vectors are compared; None where no loss is between vectors.
        contrastive: temperature, margin, distance.
        weights: of the losses between vectors.
        hold: keep residuals between the vectors' pass and the backward pass.
        num_vectors: T, vectors of the step.
        action_tokens: that have a weight in a token loss.
        truncated_thoughts: given thoughts that were longer than their limit.
    """

    micro: Sequence[GlobalBatch]
    objective: TokenObjective
    plan: ContrastPlan | None = None
    contrastive: ContrastiveConfig = ContrastiveConfig()
    weights: ContrastWeights = ContrastWeights(infonce=0.0, triplet=0.0)
    hold: bool = False
    num_vectors: int = 0
    action_tokens: int = 0
    truncated_thoughts: int = 0

    @property
    def tokens(self) -> int:
        """Tokens that are read, padding not counted."""
        return sum(batch.tokens for batch in self.micro)


@dataclass(frozen=True, kw_only=True, eq=False)
class Learner:
    """The decoder as the compiled functions take it: what is trained, and what is not.

    Attributes:
        graph: structure of the decoder.
        frozen: base weights under LoRA, and the vocabulary mask.
        mesh_context: mesh and rules.
    """

    graph: nnx.GraphDef[Decoder]
    frozen: nnx.State
    mesh_context: MeshContext


def step_vectors(
    learner: Learner, trained: nnx.State, batch: StepBatch
) -> Float[np.ndarray, "T D"]:
    """Every vector of the step by its number, on every host, without a gradient.

    Call it inside `placement.activate()`.
    """
    return global_to_host(_by_number(*_vectors(learner, trained, batch), batch))[
        : batch.num_vectors
    ]


def _vectors(
    learner: Learner, trained: nnx.State, batch: StepBatch
) -> tuple[list[GlobalBatch], list[Float[Array, "_ _ D"]]]:
    """The micro-batches that have vectors, and the vectors."""
    with_vectors = [placed for placed in batch.micro if placed.vectors.shape[1]]
    graph, frozen = learner.graph, learner.frozen
    return with_vectors, [
        vectors_of(graph, trained, frozen, placed.micro) for placed in with_vectors
    ]


def _by_number(
    micro: Sequence[GlobalBatch], found: Sequence[Float[Array, "_ _ D"]], batch: StepBatch
) -> Float[Array, "T D"]:
    """The vectors of all micro-batches in the order of their numbers, whole on every device.

    They stay on the devices. Rows beyond the step's vectors are zero: the table is as long as the
    padded plan, so that steps of different numbers share their programs.
    """
    count = batch.num_vectors
    if batch.plan is not None:
        count = max(count, len(batch.plan.queries) + len(batch.plan.candidates))
    vectors = jnp.zeros((count, found[0].shape[-1]), jnp.float32)
    for placed, own in zip(micro, found, strict=True):
        vectors = _stored(vectors, own, placed.vectors)
    return vectors


@functools.partial(jax.jit, donate_argnames=("table",))
def _stored(
    table: Float[Array, "T D"], found: Float[Array, "B M D"], numbers: Int[Array, "B M"]
) -> Float[Array, "T D"]:
    """The table with the vectors found at their numbers; those of -1 are left out."""
    rows = jax.reshard(found, jax.P()).reshape(-1, found.shape[-1])
    at = numbers.reshape(-1)
    # A negative number would count from the end; one beyond the end is dropped.
    return table.at[jnp.where(at < 0, len(table), at)].set(rows, mode="drop")


def with_columns(batch: StepBatch, name: str, columns: Sequence[Float[Array, "_ _"]]) -> StepBatch:
    """The batch with one more of `COLUMNS` where a policy is learnt.

    Args:
        batch: of rows with a policy and others.
        name: `old` or `reference`.
        columns: for each micro-batch, as `step_log_probs` and `train_step` give them.
    """
    micro = [
        replace(placed, micro=replace(placed.micro, columns=placed.micro.columns | {name: column}))
        if "policy_weight" in placed.micro.columns
        else placed
        for placed, column in zip(batch.micro, columns, strict=True)
    ]
    return replace(batch, micro=micro)


def step_log_probs(
    learner: Learner, trained: nnx.State, batch: StepBatch
) -> list[Float[Array, "_ _"]]:
    """Log-probabilities of every micro-batch's action tokens, for example under a reference.

    Call it inside `placement.activate()`.
    """
    temperature = batch.objective.temperature
    return [
        log_probs_of(learner.graph, trained, learner.frozen, placed.micro, temperature)
        if placed.micro.targets.shape[1]
        else jnp.zeros(placed.micro.targets.shape)
        for placed in batch.micro
    ]


def train_step(
    learner: Learner, optimizer: Optimizer, state: TrainState, batch: StepBatch
) -> tuple[TrainState, dict[str, float], list[Float[Array, "_ _"]]]:
    """One update of the weights.

    Call it inside `placement.activate()`. The state given is consumed.

    Returns:
        The new state; the step's metrics; and of each micro-batch the log-probabilities [B, A] of
        its action tokens before the update. Among the metrics, `loss/sft`, in nats a token, and
        those of `contrast` have no weight, and `loss/policy` has the one of its stage.
    """
    accumulate = _accumulate_held if batch.plan is not None and batch.hold else _accumulate
    gradients, metrics, sums, all_log_probs = accumulate(learner, state.trained, batch)
    state, update = optimizer.apply(state, gradients)
    # All that is told of the step comes to the host at once, after its last program was started.
    measured, sums = jax.device_get((metrics | update, sums))
    told = {name: float(value) for name, value in measured.items()}
    return state, told | _token_metrics(sums), all_log_probs


_Accumulated = tuple[
    nnx.State, dict[str, Array], list[Mapping[str, Array]], list[Float[Array, "_ _"]]
]
"""Gradients, metrics of the vectors, and the sums and log-probabilities of each micro-batch."""


def _accumulate(learner: Learner, trained: nnx.State, batch: StepBatch) -> _Accumulated:
    """One micro-batch after the other; where vectors are compared, each is run twice."""
    metrics: dict[str, Array] = {}
    pulls: Array | None = None
    if batch.plan is not None:
        metrics, pulls = contrast(
            _by_number(*_vectors(learner, trained, batch), batch),
            batch.plan,
            config=batch.contrastive,
            weights=batch.weights,
        )
    gradients = _zeros(trained)
    sums: list[Mapping[str, Array]] = []
    all_log_probs = []
    for placed in batch.micro:
        own = None
        if pulls is not None and placed.vectors.shape[1]:
            own = _pulls_of(placed, pulls, learner.mesh_context)
        gradients, found, log_probs = add_gradients(
            learner.graph, trained, learner.frozen, gradients, placed.micro, own, batch.objective
        )
        sums.append(found)
        all_log_probs.append(log_probs)
    return gradients, metrics, sums, all_log_probs


def _accumulate_held(learner: Learner, trained: nnx.State, batch: StepBatch) -> _Accumulated:
    """The same with every micro-batch run once, and its residuals kept until its pulls are known.

    The backward pass is cut in two at the vectors, as in GradCache, without the second forward.
    """
    assert batch.plan is not None
    held = [
        hold(learner.graph, trained, learner.frozen, placed.micro, batch.objective)
        for placed in batch.micro
    ]
    vectors = _by_number(batch.micro, [own for own, *_ in held], batch)
    metrics, pulls = contrast(vectors, batch.plan, config=batch.contrastive, weights=batch.weights)
    gradients = _zeros(trained)
    sums: list[Mapping[str, Array]] = []
    all_log_probs = []
    for placed in batch.micro:
        # Residuals are let go as soon as they have been used.
        _, pullback, found, log_probs = held.pop(0)
        gradients = pull(gradients, pullback, _pulls_of(placed, pulls, learner.mesh_context))
        sums.append(found)
        all_log_probs.append(log_probs)
    return gradients, metrics, sums, all_log_probs


def _zeros(trained: nnx.State) -> nnx.State:
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.float32), trained)


def _pulls_of(
    placed: GlobalBatch, pulls: Float[Array, "T D"], mesh_context: MeshContext
) -> Float[Array, "B M D"]:
    """The gradient of each vector of a micro-batch; 0 for those that only fill it up."""
    return jax.reshard(rows_of(pulls, placed.vectors), mesh_context.activation("bld"))


def _token_metrics(sums: Sequence[Mapping[str, np.ndarray]]) -> dict[str, float]:
    """Means over all micro-batches, from sums and counts."""
    total: dict[str, float] = {}
    for each in sums:
        for name, value in each.items():
            total[name] = total.get(name, 0.0) + float(value)
    metrics = {}
    if total.get("sft/tokens"):
        metrics["loss/sft"] = total["sft/nll"] / total["sft/tokens"]
    if "policy/tokens" in total:
        metrics["loss/policy"] = total["policy/loss"]
    # A rollout none of whose groups is kept says nothing about the policy.
    if count := total.get("policy/tokens"):
        metrics["rollout/entropy"] = total["policy/entropy"] / count
        metrics["rollout/log_prob_gap"] = total["policy/gap"] / count
        metrics["policy/clipped"] = total["policy/clipped"] / count
        metrics["policy/kl"] = total["policy/kl"] / count
        metrics["policy/sampler_capped"] = total["policy/sampler_capped"] / count
    return metrics
