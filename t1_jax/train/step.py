"""One training step, the same for all stages: micro-batches in, new weights out.

Token losses are sums whose denominators are known before anything runs, and contrastive losses
reach the micro-batches as one gradient for each embedding. So the number and order of
micro-batches, devices and hosts change a step by no more than rounding.
"""

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Float, Int

from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext, global_to_host
from t1_jax.train.config import LossWeights
from t1_jax.train.contrast import ContrastPlan, contrast, take_embeddings
from t1_jax.train.layout import PlacedMicroBatch
from t1_jax.train.losses import ContrastiveConfig
from t1_jax.train.objective import (
    TokenLosses,
    TokenObjective,
    accumulate_gradients,
    apply_vector_grads,
    embed,
    forward_with_vjp,
    target_logps,
)
from t1_jax.train.optimizer import Optimizer, TrainState


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What all steps of a stage have in common.

    Attributes:
        weights: weights of the losses.
        tokens: constants of the token losses.
        contrastive: constants of the contrastive losses.
        keep_residuals: see `MicroBatchConfig.keep_residuals`.
    """

    weights: LossWeights
    tokens: TokenObjective = TokenObjective()
    contrastive: ContrastiveConfig = ContrastiveConfig()
    keep_residuals: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class StepBatch:
    """All that one step learns from.

    Attributes:
        micro_batches: rows in pieces.
        plan: which embeddings are compared; None without a contrastive loss.
        num_embeddings: T, number of embeddings of the step.
        num_targets: number of tokens with a weight in a token loss.
        truncated_thoughts: number of reference thoughts that were truncated.
    """

    micro_batches: Sequence[PlacedMicroBatch]
    plan: ContrastPlan | None = None
    num_embeddings: int = 0
    num_targets: int = 0
    truncated_thoughts: int = 0

    @property
    def num_tokens(self) -> int:
        """Number of tokens, padding not counted."""
        return sum(batch.num_tokens for batch in self.micro_batches)

    @property
    def num_rows(self) -> int:
        """Number of rows, padding not counted."""
        return sum(int((batch.row_indices >= 0).sum()) for batch in self.micro_batches)

    def with_logps(
        self,
        *,
        old: Sequence[Float[Array, "_ _"] | None] | None = None,
        reference: Sequence[Float[Array, "_ _"] | None] | None = None,
    ) -> "StepBatch":
        """The same with log-probabilities of its targets, one array for each micro-batch."""
        none = [None] * len(self.micro_batches)
        return replace(
            self,
            micro_batches=[
                batch.with_logps(old=old_logps, reference=ref_logps)
                for batch, old_logps, ref_logps in zip(
                    self.micro_batches, old or none, reference or none, strict=True
                )
            ],
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class ModelParts:
    """The decoder as the compiled functions take it, without the weights that are trained.

    Attributes:
        graphdef: structure of the decoder.
        frozen: base weights under LoRA, and the vocabulary mask.
        mesh_context: mesh and rules.
    """

    graphdef: nnx.GraphDef[Decoder]
    frozen: nnx.State
    mesh_context: MeshContext


class StepResult(NamedTuple):
    """What a step gives.

    Attributes:
        state: the new state.
        metrics: unweighted losses (`loss/sft` in nats per token), gradient norm, and others.
        logps: for each micro-batch the log-probabilities [B, A] of its targets before the update.
    """

    state: TrainState
    metrics: dict[str, float]
    logps: list[Float[Array, "_ _"]]


def train_step(
    parts: ModelParts,
    optimizer: Optimizer,
    objective: Objective,
    state: TrainState,
    batch: StepBatch,
) -> StepResult:
    """One update of the weights. The state given is consumed.

    Call it inside `mesh_context.activate()`.
    """
    keeps = batch.plan is not None and objective.keep_residuals
    accumulate = _accumulate_with_residuals if keeps else _accumulate
    gradients, metrics, losses = accumulate(parts, objective, state.trained, batch)
    state, update_metrics = optimizer.apply(state, gradients)
    # All metrics come to the host at once, after the step's last program was dispatched.
    sums = [each.sums for each in losses]
    host_metrics, host_sums = jax.device_get((metrics | update_metrics, sums))
    step_metrics = {name: float(value) for name, value in host_metrics.items()}
    step_metrics |= _token_metrics(host_sums, objective.weights)
    return StepResult(state, step_metrics, [each.logps for each in losses])


_Accumulated = tuple[nnx.State, dict[str, Array], list[TokenLosses]]
"""Gradients, metrics of the contrastive losses, and the token losses of each micro-batch."""


def _accumulate(
    parts: ModelParts, objective: Objective, trained: nnx.State, batch: StepBatch
) -> _Accumulated:
    """One micro-batch after the other; with a contrastive loss each is run twice."""
    metrics: dict[str, Array] = {}
    vector_grads: Array | None = None
    if batch.plan is not None:
        vectors = _embeddings(parts, trained, batch)
        metrics, vector_grads = _contrast(vectors, batch.plan, objective)
    gradients = _zeros(trained)
    losses: list[TokenLosses] = []
    for placed in batch.micro_batches:
        own_grads = None
        if vector_grads is not None and placed.embedding_ids.shape[1]:
            own_grads = _grads_of(placed, vector_grads, parts.mesh_context)
        gradients, token_losses = accumulate_gradients(
            parts.graphdef,
            trained,
            parts.frozen,
            gradients,
            placed.arrays,
            own_grads,
            objective.tokens,
        )
        losses.append(token_losses)
    return gradients, metrics, losses


def _accumulate_with_residuals(
    parts: ModelParts, objective: Objective, trained: nnx.State, batch: StepBatch
) -> _Accumulated:
    """The same with every micro-batch run once, its residuals kept until its gradients are known.

    The backward pass is cut in two at the embeddings, as in GradCache, without a second forward
    pass.
    """
    assert batch.plan is not None
    forward_passes = [
        forward_with_vjp(parts.graphdef, trained, parts.frozen, placed.arrays, objective.tokens)
        for placed in batch.micro_batches
    ]
    vectors = _by_id(batch, batch.micro_batches, [each.vectors for each in forward_passes])
    metrics, vector_grads = _contrast(vectors, batch.plan, objective)
    gradients = _zeros(trained)
    losses: list[TokenLosses] = []
    for placed in batch.micro_batches:
        # Residuals are freed as soon as they have been used.
        _, vjp, token_losses = forward_passes.pop(0)
        own_grads = _grads_of(placed, vector_grads, parts.mesh_context)
        gradients = apply_vector_grads(gradients, vjp, own_grads)
        losses.append(token_losses)
    return gradients, metrics, losses


def _contrast(
    vectors: Float[Array, "T D"], plan: ContrastPlan, objective: Objective
) -> tuple[dict[str, Array], Float[Array, "T D"]]:
    return contrast(
        vectors,
        plan,
        config=objective.contrastive,
        infonce_weight=objective.weights.infonce,
        triplet_weight=objective.weights.triplet,
    )


@jax.jit
def _zeros(trained: nnx.State) -> nnx.State:
    return jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.float32), trained)


def _grads_of(
    placed: PlacedMicroBatch, vector_grads: Float[Array, "T D"], mesh_context: MeshContext
) -> Float[Array, "B M D"]:
    """The gradient of each embedding of a micro-batch; 0 in padding."""
    return _take(vector_grads, placed.embedding_ids, mesh_context.activation("bld"))


@functools.partial(jax.jit, static_argnames=("sharding",))
def _take(
    vector_grads: Float[Array, "T D"], ids: Int[Array, "B M"], sharding: jax.NamedSharding
) -> Float[Array, "B M D"]:
    return jax.reshard(take_embeddings(vector_grads, ids), sharding)


def _token_metrics(
    sums: Sequence[Mapping[str, np.ndarray]], weights: LossWeights
) -> dict[str, float]:
    """Means over all micro-batches, from sums and counts."""
    total: dict[str, float] = {}
    for micro_batch_sums in sums:
        for name, value in micro_batch_sums.items():
            total[name] = total.get(name, 0.0) + float(value)
    metrics = {}
    if total.get("sft/tokens"):
        metrics["loss/sft"] = total["sft/nll"] / total["sft/tokens"]
    if "policy/tokens" in total:
        metrics["loss/policy"] = total["policy/weighted_loss"] / weights.policy
    # A rollout without a group in the loss has no tokens to average over.
    if count := total.get("policy/tokens"):
        metrics["rollout/entropy"] = total["policy/entropy"] / count
        metrics["rollout/log_prob_gap"] = total["policy/gap"] / count
        metrics["policy/clipped"] = total["policy/clipped"] / count
        metrics["policy/kl"] = total["policy/kl"] / count
        metrics["policy/sampler_capped"] = total["policy/sampler_capped"] / count
    return metrics


def step_embeddings(
    parts: ModelParts, trained: nnx.State, batch: StepBatch
) -> Float[np.ndarray, "T D"]:
    """Every embedding of a step by its id, on every host, without a gradient.

    Call it inside `mesh_context.activate()`.
    """
    return global_to_host(_embeddings(parts, trained, batch))[: batch.num_embeddings]


def step_logps(
    parts: ModelParts, trained: nnx.State, batch: StepBatch, *, temperature: float
) -> list[Float[Array, "_ _"]]:
    """Log-probabilities of every micro-batch's targets, for example under the reference policy.

    Call it inside `mesh_context.activate()`.
    """
    return [
        target_logps(parts.graphdef, trained, parts.frozen, placed.arrays, temperature)
        if placed.arrays.targets.token_ids.size
        else jnp.zeros(placed.arrays.targets.token_ids.shape)
        for placed in batch.micro_batches
    ]


def _embeddings(parts: ModelParts, trained: nnx.State, batch: StepBatch) -> Float[Array, "T D"]:
    """The embeddings of a step by their ids, without a gradient."""
    with_embeddings = [each for each in batch.micro_batches if each.embedding_ids.shape[1]]
    vectors = [
        embed(parts.graphdef, trained, parts.frozen, placed.arrays) for placed in with_embeddings
    ]
    return _by_id(batch, with_embeddings, vectors)


def _by_id(
    batch: StepBatch,
    micro_batches: Sequence[PlacedMicroBatch],
    vectors: Sequence[Float[Array, "_ _ D"]],
) -> Float[Array, "T D"]:
    """The embeddings of all micro-batches by their ids, whole on every device.

    They stay on the devices. Rows beyond the step's embeddings are zero: the table is as long as
    the padded plan, so that steps of different sizes share their programs.
    """
    count = batch.num_embeddings
    if batch.plan is not None:
        count = max(count, len(batch.plan.queries) + len(batch.plan.candidates))
    table = jnp.zeros((count, vectors[0].shape[-1]), jnp.float32)
    for placed, micro_batch_vectors in zip(micro_batches, vectors, strict=True):
        table = _scatter(table, micro_batch_vectors, placed.embedding_ids)
    return table


@functools.partial(jax.jit, donate_argnames=("table",))
def _scatter(
    table: Float[Array, "T D"], vectors: Float[Array, "B M D"], ids: Int[Array, "B M"]
) -> Float[Array, "T D"]:
    """The table with the vectors at their ids; those of -1 are left out."""
    rows = jax.reshard(vectors, jax.P()).reshape(-1, vectors.shape[-1])
    at = ids.reshape(-1)
    # A negative index would count from the end; one beyond the end is dropped.
    return table.at[jnp.where(at < 0, len(table), at)].set(rows, mode="drop")
