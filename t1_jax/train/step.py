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
from jax.experimental import multihost_utils
from jaxtyping import Array, Float

from t1_jax.model import Decoder, unit
from t1_jax.parallel import Placement
from t1_jax.train.batch import MicroBatch, PlacedBatch, place_rows
from t1_jax.train.contrast import ContrastPlan, ContrastWeights, contrast
from t1_jax.train.log_probs import take_slots, token_log_probs
from t1_jax.train.losses import ContrastiveConfig, PolicyConfig, policy_loss
from t1_jax.train.optimiser import Optimiser, TrainState


@dataclass(frozen=True, kw_only=True)
class TokenObjective:
    """What is computed from log-probabilities; static in the compiled functions.

    Attributes:
        policy: of stage 3; None where tokens are only imitated.
        temperature: at which the tokens were drawn.
        on_policy: this is the first update since the rollout, so the policy before the update is
            the policy itself, and the column `old` is not read.
    """

    policy: PolicyConfig | None = None
    temperature: float = 1.0
    on_policy: bool = True


@dataclass(frozen=True, kw_only=True, eq=False)
class StepBatch:
    """All that one step learns from.

    Attributes:
        micro: rows in pieces.
        objective: of the action tokens.
        plan: which vectors are compared; None where no loss is between vectors.
        contrastive: temperature, margin, distance.
        weights: of the losses between vectors.
        num_vectors: T, vectors of the step.
        action_tokens: that have a weight in a token loss.
    """

    micro: Sequence[PlacedBatch]
    objective: TokenObjective
    plan: ContrastPlan | None = None
    contrastive: ContrastiveConfig = ContrastiveConfig()
    weights: ContrastWeights = ContrastWeights(infonce=0.0, triplet=0.0)
    num_vectors: int = 0
    action_tokens: int = 0

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
        placement: mesh and rules.
    """

    graph: nnx.GraphDef[Decoder]
    frozen: nnx.State
    placement: Placement


@functools.partial(jax.jit, static_argnames=("graph",))
def _vectors(
    graph: nnx.GraphDef[Decoder], trained: nnx.State, frozen: nnx.State, batch: MicroBatch
) -> Float[Array, "B M D"]:
    decoder = nnx.merge(graph, trained, frozen)
    return _read_vectors(decoder, _hidden(decoder, batch), batch)


@functools.partial(jax.jit, static_argnames=("graph", "objective"), donate_argnames=("gradients",))
def _add_gradients(
    graph: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    gradients: nnx.State,
    batch: MicroBatch,
    pulls: Float[Array, "B M D"] | None,
    objective: TokenObjective,
) -> tuple[nnx.State, dict[str, Array], Float[Array, "B A"]]:
    """Gradients grown by one micro-batch's, its sums, and its log-probabilities.

    `pulls` are the gradients of the step's loss with respect to the micro-batch's vectors; None
    where no loss is between vectors.
    """

    def loss(trained: nnx.State) -> tuple[Array, tuple[dict[str, Array], Array]]:
        decoder = nnx.merge(graph, trained, frozen)
        hidden = _hidden(decoder, batch)
        value, sums, log_probs = jnp.zeros(()), {}, jnp.zeros(batch.targets.shape)
        if batch.targets.shape[1]:
            value, sums, log_probs = _token_loss(decoder, hidden, batch, objective)
        if pulls is not None:
            # Its gradient is the vector-Jacobian product of the vectors with their pulls.
            value = value + jnp.sum(pulls * _read_vectors(decoder, hidden, batch))
        return value, (sums, log_probs)

    grown, (sums, log_probs) = jax.grad(loss, has_aux=True)(trained)
    gradients = jax.tree.map(lambda a, b: a + b.astype(a.dtype), gradients, grown)
    return gradients, sums, log_probs


@functools.partial(jax.jit, static_argnames=("graph", "temperature"))
def _log_probs(
    graph: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    batch: MicroBatch,
    temperature: float,
) -> Float[Array, "B A"]:
    decoder = nnx.merge(graph, trained, frozen)
    states = take_slots(decoder, _hidden(decoder, batch), batch.read_at)
    return token_log_probs(decoder, states, batch.targets, temperature=temperature)[0]


def _hidden(decoder: Decoder, batch: MicroBatch) -> Float[Array, "B L D"]:
    packed = batch.segments is not None
    return decoder.hidden(
        batch.tokens, positions=batch.positions, segment_ids=batch.segments, shared_prefix=packed
    )


def _read_vectors(
    decoder: Decoder, hidden: Float[Array, "B L D"], batch: MicroBatch
) -> Float[Array, "B M D"]:
    taken = take_slots(decoder, hidden, batch.emb_at)
    return unit(decoder.final_norm(taken.astype(jnp.float32)))


def _token_loss(
    decoder: Decoder, hidden: Float[Array, "B L D"], batch: MicroBatch, objective: TokenObjective
) -> tuple[Array, dict[str, Array], Float[Array, "B A"]]:
    """The weighted sums of imitation and policy loss, and what is worth logging of them."""
    states = take_slots(decoder, hidden, batch.read_at)
    log_probs, entropy = token_log_probs(
        decoder, states, batch.targets, temperature=objective.temperature
    )
    value, sums = jnp.zeros(()), {}
    if "sft_weight" in batch.columns:
        value = value - jnp.sum(batch.columns["sft_weight"] * log_probs)
        real = (batch.columns["sft_weight"] > 0).astype(jnp.float32)
        sums |= {"sft/tokens": jnp.sum(real), "sft/nll": -jnp.sum(real * log_probs)}
    if "policy_weight" in batch.columns:
        assert objective.policy is not None
        columns = batch.columns
        weight = columns["policy_weight"]
        mask = (weight > 0).astype(jnp.float32)
        old = jax.lax.stop_gradient(log_probs) if objective.on_policy else columns["old"]
        terms = policy_loss(
            log_probs,
            old=old,
            sampler=columns["sampler"],
            reference=columns.get("reference"),
            advantages=columns["advantage"],
            mask=mask,
            sequence=batch.sequence,
            num_sequences=max(batch.emb_at.shape[1], 1),
            config=objective.policy,
        )
        policy = jnp.sum(weight * terms.loss)
        value = value + policy
        sums |= {
            "policy/tokens": jnp.sum(mask),
            "policy/loss": policy,
            "policy/entropy": jnp.sum(mask * entropy),
            "policy/clipped": jnp.sum(mask * terms.clipped),
            "policy/kl": jnp.sum(mask * terms.kl),
            "policy/gap": jnp.sum(mask * jnp.abs(old - columns["sampler"])),
        }
    return value, sums, log_probs


def step_vectors(
    learner: Learner, trained: nnx.State, batch: StepBatch
) -> Float[np.ndarray, "T D"]:
    """Every vector of the step by its number, on every host, without a gradient.

    Call it inside `placement.entered()`.
    """
    vectors = np.zeros((batch.num_vectors, 0), np.float32)
    for placed in batch.micro:
        if not placed.vectors.shape[1]:
            continue
        found = _whole(_vectors(learner.graph, trained, learner.frozen, placed.micro))
        if not vectors.shape[1]:
            vectors = np.zeros((batch.num_vectors, found.shape[-1]), np.float32)
        kept = placed.vectors >= 0
        vectors[placed.vectors[kept]] = found[kept]
    return vectors


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

    Call it inside `placement.entered()`.
    """
    temperature = batch.objective.temperature
    return [
        _log_probs(learner.graph, trained, learner.frozen, placed.micro, temperature)
        if placed.micro.targets.shape[1]
        else jnp.zeros(placed.micro.targets.shape)
        for placed in batch.micro
    ]


def train_step(
    learner: Learner, optimiser: Optimiser, state: TrainState, batch: StepBatch
) -> tuple[TrainState, dict[str, float], list[Float[Array, "_ _"]]]:
    """One update of the weights.

    Call it inside `placement.entered()`. The state given is consumed.

    Returns:
        The new state; the step's metrics; and of each micro-batch the log-probabilities [B, A] of
        its action tokens before the update. Among the metrics, `loss/sft`, in nats a token, and
        those of `contrast` have no weight, and `loss/policy` has the one of its stage.
    """
    metrics: dict[str, float] = {}
    pulls: np.ndarray | None = None
    if batch.plan is not None:
        vectors = step_vectors(learner, state.trained, batch)
        metrics, pulls = contrast(
            vectors, batch.plan, config=batch.contrastive, weights=batch.weights
        )
    gradients = jax.tree.map(lambda leaf: jnp.zeros_like(leaf, jnp.float32), state.trained)
    sums: list[Mapping[str, Array]] = []
    all_log_probs = []
    for placed in batch.micro:
        gradients, found, log_probs = _add_gradients(
            learner.graph,
            state.trained,
            learner.frozen,
            gradients,
            placed.micro,
            None if pulls is None else _pulls_of(placed, pulls, learner.placement),
            batch.objective,
        )
        sums.append(found)
        all_log_probs.append(log_probs)
    state, update = optimiser.apply(state, gradients)
    metrics |= {name: float(value) for name, value in update.items()}
    return state, metrics | _token_metrics(sums), all_log_probs


def _pulls_of(
    placed: PlacedBatch, pulls: Float[np.ndarray, "T D"], placement: Placement
) -> Float[Array, "B M D"] | None:
    """The gradient of each vector of a micro-batch; 0 for those that only fill it up."""
    if not placed.vectors.shape[1]:
        return None
    chosen = pulls[np.maximum(placed.vectors, 0)]
    chosen[placed.vectors < 0] = 0.0
    return place_rows(chosen, "bld", placement)


def _whole(array: jax.Array) -> np.ndarray:
    """All rows of a sharded array, on every host."""
    if jax.process_count() == 1:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def _token_metrics(sums: Sequence[Mapping[str, Array]]) -> dict[str, float]:
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
    return metrics
