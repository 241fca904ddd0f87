"""The compiled passes over one micro-batch: vectors, gradients, log-probabilities."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float

from t1_jax.model import AttentionMask, Decoder, to_embeddings
from t1_jax.train.batch import MicroBatch
from t1_jax.train.log_probs import take_slots, token_log_probs
from t1_jax.train.losses import PolicyConfig, policy_loss


@dataclass(frozen=True, kw_only=True)
class TokenObjective:
    """What is computed from log-probabilities; static in the compiled functions.

    Attributes:
        policy: of stage 3; None where tokens are only imitated.
        temperature: at which rewarded tokens were drawn.
        on_policy: this is the first update since the rollout, so the policy before the update is
            the policy itself, and the column `old` is not read.
    """

    policy: PolicyConfig | None = None
    temperature: float = 1.0
    on_policy: bool = True


Pullback = Callable[[tuple[Array, Array]], tuple[nnx.State]]
"""Gradients of a micro-batch's token loss and vectors to those of the weights; it is a pytree."""


@functools.partial(jax.jit, static_argnames=("graph",))
def vectors_of(
    graph: nnx.GraphDef[Decoder], trained: nnx.State, frozen: nnx.State, batch: MicroBatch
) -> Float[Array, "B M D"]:
    """A micro-batch's vectors, without a gradient."""
    decoder = nnx.merge(graph, trained, frozen)
    return _read_vectors(decoder, _hidden(decoder, batch), batch)


@functools.partial(jax.jit, static_argnames=("graph", "objective"), donate_argnames=("gradients",))
def add_gradients(
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
        (value, vectors), aux = _token_loss_and_vectors(
            nnx.merge(graph, trained, frozen), batch, objective
        )
        if pulls is not None:
            # Its gradient is the vector-Jacobian product of the vectors with their pulls.
            value = value + jnp.sum(pulls * vectors)
        return value, aux

    grown, (sums, log_probs) = jax.grad(loss, has_aux=True)(trained)
    return _summed(gradients, grown), sums, log_probs


@functools.partial(jax.jit, static_argnames=("graph", "objective"))
def hold(
    graph: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    batch: MicroBatch,
    objective: TokenObjective,
) -> tuple[Float[Array, "B M D"], Pullback, dict[str, Array], Float[Array, "B A"]]:
    """A micro-batch's vectors, how their gradients reach the weights, its sums and log-probs."""

    def forward(trained: nnx.State) -> tuple[tuple[Array, Array], tuple[dict[str, Array], Array]]:
        return _token_loss_and_vectors(nnx.merge(graph, trained, frozen), batch, objective)

    (_, vectors), pullback, (sums, log_probs) = jax.vjp(forward, trained, has_aux=True)
    return vectors, pullback, sums, log_probs


@functools.partial(jax.jit, donate_argnames=("gradients",))
def pull(gradients: nnx.State, pullback: Pullback, pulls: Float[Array, "B M D"]) -> nnx.State:
    """Gradients grown by those of a micro-batch that was held."""
    (grown,) = pullback((jnp.ones(()), pulls))
    return _summed(gradients, grown)


def _summed(gradients: nnx.State, grown: nnx.State) -> nnx.State:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), gradients, grown)


@functools.partial(jax.jit, static_argnames=("graph", "temperature"))
def log_probs_of(
    graph: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    batch: MicroBatch,
    temperature: float,
) -> Float[Array, "B A"]:
    """Log-probabilities of a micro-batch's action tokens, without a gradient."""
    decoder = nnx.merge(graph, trained, frozen)
    states = take_slots(decoder, _hidden(decoder, batch), batch.read_at)
    return token_log_probs(decoder, states, batch.targets, temperature=temperature)[0]


def _hidden(decoder: Decoder, batch: MicroBatch) -> Float[Array, "B L D"]:
    packed = batch.segments is not None
    mask = AttentionMask(segment_ids=batch.segments, shared_prefix=packed)
    return decoder(batch.tokens, positions=batch.positions, mask=mask)


def _read_vectors(
    decoder: Decoder, hidden: Float[Array, "B L D"], batch: MicroBatch
) -> Float[Array, "B M D"]:
    return to_embeddings(decoder, take_slots(decoder, hidden, batch.emb_at))


def _token_loss_and_vectors(
    decoder: Decoder, batch: MicroBatch, objective: TokenObjective
) -> tuple[tuple[Array, Float[Array, "B M D"]], tuple[dict[str, Array], Float[Array, "B A"]]]:
    """What has a gradient; and sums and log-probabilities to report."""
    hidden = _hidden(decoder, batch)
    value, sums, log_probs = jnp.zeros(()), {}, jnp.zeros(batch.targets.shape)
    if batch.targets.shape[1]:
        value, sums, log_probs = _token_loss(decoder, hidden, batch, objective)
    return (value, _read_vectors(decoder, hidden, batch)), (sums, log_probs)


def _token_loss(
    decoder: Decoder, hidden: Float[Array, "B L D"], batch: MicroBatch, objective: TokenObjective
) -> tuple[Array, dict[str, Array], Float[Array, "B A"]]:
    """The weighted sums of imitation and policy loss, and what is worth logging of them."""
    states = take_slots(decoder, hidden, batch.read_at)
    bonus = objective.policy is not None and objective.policy.entropy_coef > 0
    log_probs, entropy = token_log_probs(
        decoder,
        states,
        batch.targets,
        temperature=objective.temperature,
        entropy_gradient=bonus,
    )
    value, sums = jnp.zeros(()), {}
    if "sft_weight" in batch.columns:
        # Imitation is of the model as it is, whatever the temperature that thoughts are drawn at.
        plain = log_probs
        if objective.temperature != 1:
            plain, _ = token_log_probs(decoder, states, batch.targets, temperature=1.0)
        value = value - jnp.sum(batch.columns["sft_weight"] * plain)
        real = (batch.columns["sft_weight"] > 0).astype(jnp.float32)
        sums |= {"sft/tokens": jnp.sum(real), "sft/nll": -jnp.sum(real * plain)}
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
            entropy=entropy,
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
            "policy/sampler_capped": jnp.sum(mask * terms.sampler_capped),
            "policy/gap": jnp.sum(mask * jnp.abs(old - columns["sampler"])),
        }
    return value, sums, log_probs
