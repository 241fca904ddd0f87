"""The compiled passes over one micro-batch: embeddings, token losses, gradients."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
from flax import nnx
from jaxtyping import Array, Float, Int, Shaped

from t1_jax.model import AttentionMask, Decoder, take_positions, to_embeddings
from t1_jax.parallel import activation_axes
from t1_jax.train.layout import MicroBatch
from t1_jax.train.losses import PolicyConfig, policy_loss

CHUNK = 64
"""Targets of a row whose logits are in memory at once."""


@dataclass(frozen=True, kw_only=True)
class TokenObjective:
    """Constants of the token losses; static in the compiled functions.

    Attributes:
        policy: the policy loss of stage 3; None where there is only SFT.
        temperature: temperature at which completion tokens were sampled.
        on_policy: whether this is the first update of a rollout, whose old policy is the policy
            itself, so that `old_logps` is not read.
    """

    policy: PolicyConfig | None = None
    temperature: float = 1.0
    on_policy: bool = True


class TokenLosses(NamedTuple):
    """What a micro-batch adds to the step besides gradients.

    Attributes:
        sums: sums over its targets, for the metrics of the step.
        logps: log-probability of each target, in nats.
    """

    sums: dict[str, Float[Array, ""]]
    logps: Float[Array, "B A"]


VjpFunction = Callable[[tuple[Array, Array]], tuple[nnx.State]]
"""Gradients of a micro-batch's token loss and embeddings -> those of the weights; a pytree."""


class ForwardPass(NamedTuple):
    """A forward pass whose residuals are kept for the backward pass.

    Attributes:
        vectors: embeddings of the micro-batch.
        vjp: backward pass.
        losses: sums and log-probabilities.
    """

    vectors: Float[Array, "B M D"]
    vjp: VjpFunction
    losses: TokenLosses


@functools.partial(jax.jit, static_argnames=("graphdef",))
def embed(
    graphdef: nnx.GraphDef[Decoder], trained: nnx.State, frozen: nnx.State, batch: MicroBatch
) -> Float[Array, "B M D"]:
    """The embeddings of a micro-batch, without a gradient."""
    decoder = nnx.merge(graphdef, trained, frozen)
    return _embeddings(decoder, _hidden(decoder, batch), batch)


@functools.partial(jax.jit, static_argnames=("graphdef", "temperature"))
def target_logps(
    graphdef: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    batch: MicroBatch,
    temperature: float,
) -> Float[Array, "B A"]:
    """The log-probabilities of a micro-batch's targets, without a gradient."""
    decoder = nnx.merge(graphdef, trained, frozen)
    states = take_positions(_hidden(decoder, batch), batch.logit_positions, decoder.rules)
    return token_log_probs(decoder, states, batch.targets.token_ids, temperature=temperature)[0]


@functools.partial(
    jax.jit, static_argnames=("graphdef", "objective"), donate_argnames=("gradients",)
)
def accumulate_gradients(
    graphdef: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    gradients: nnx.State,
    batch: MicroBatch,
    vector_grads: Float[Array, "B M D"] | None,
    objective: TokenObjective,
) -> tuple[nnx.State, TokenLosses]:
    """Adds the gradients of a micro-batch to those so far, which it consumes: one forward and one
    backward pass.

    `vector_grads` is the gradient of the step's contrastive loss with respect to the micro-batch's
    embeddings; None where the step has no contrastive loss.
    """

    def loss(trained: nnx.State) -> tuple[Array, TokenLosses]:
        (value, vectors), losses = _token_loss_and_embeddings(
            nnx.merge(graphdef, trained, frozen), batch, objective
        )
        if vector_grads is not None:
            # Its gradient is the vector-Jacobian product of the embeddings with vector_grads.
            value = value + jnp.sum(vector_grads * vectors)
        return value, losses

    added, losses = jax.grad(loss, has_aux=True)(trained)
    return _sum(gradients, added), losses


@functools.partial(jax.jit, static_argnames=("graphdef", "objective"))
def forward_with_vjp(
    graphdef: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    batch: MicroBatch,
    objective: TokenObjective,
) -> ForwardPass:
    """The forward pass of a micro-batch, with what its backward pass needs."""

    def forward(trained: nnx.State) -> tuple[tuple[Array, Array], TokenLosses]:
        return _token_loss_and_embeddings(nnx.merge(graphdef, trained, frozen), batch, objective)

    (_, vectors), vjp, losses = jax.vjp(forward, trained, has_aux=True)
    return ForwardPass(vectors, vjp, losses)


@functools.partial(jax.jit, donate_argnames=("gradients",))
def apply_vector_grads(
    gradients: nnx.State, vjp: VjpFunction, vector_grads: Float[Array, "B M D"]
) -> nnx.State:
    """Adds the gradients of a micro-batch whose residuals were kept: the backward pass alone."""
    (added,) = vjp((jnp.ones(()), vector_grads))
    return _sum(gradients, added)


def _sum(gradients: nnx.State, added: nnx.State) -> nnx.State:
    return jax.tree.map(lambda a, b: a + b.astype(a.dtype), gradients, added)


def _hidden(decoder: Decoder, batch: MicroBatch) -> Float[Array, "B L D"]:
    several_texts = batch.segment_ids is not None
    mask = AttentionMask(segment_ids=batch.segment_ids, shared_prefix=several_texts)
    return decoder(batch.tokens, positions=batch.positions, mask=mask)


def _embeddings(
    decoder: Decoder, hidden: Float[Array, "B L D"], batch: MicroBatch
) -> Float[Array, "B M D"]:
    return to_embeddings(decoder, take_positions(hidden, batch.emb_positions, decoder.rules))


def _token_loss_and_embeddings(
    decoder: Decoder, batch: MicroBatch, objective: TokenObjective
) -> tuple[tuple[Array, Float[Array, "B M D"]], TokenLosses]:
    """What has a gradient, and what is only reported."""
    hidden = _hidden(decoder, batch)
    token_ids = batch.targets.token_ids
    value, losses = jnp.zeros(()), TokenLosses({}, jnp.zeros(token_ids.shape))
    if token_ids.shape[1]:
        value, losses = _token_loss(decoder, hidden, batch, objective)
    return (value, _embeddings(decoder, hidden, batch)), losses


def _token_loss(
    decoder: Decoder, hidden: Float[Array, "B L D"], batch: MicroBatch, objective: TokenObjective
) -> tuple[Array, TokenLosses]:
    """The weighted sum of SFT and policy loss over the targets of a micro-batch."""
    targets = batch.targets
    states = take_positions(hidden, batch.logit_positions, decoder.rules)
    entropy_bonus = objective.policy is not None and objective.policy.entropy_coef > 0
    logps, entropy = token_log_probs(
        decoder,
        states,
        targets.token_ids,
        temperature=objective.temperature,
        entropy_gradient=entropy_bonus,
    )
    value, sums = jnp.zeros(()), {}
    if targets.sft_weights is not None:
        # SFT is of the model at temperature 1, whatever the temperature of sampling.
        plain = logps
        if objective.temperature != 1:
            plain, _ = token_log_probs(decoder, states, targets.token_ids, temperature=1.0)
        value = value - jnp.sum(targets.sft_weights * plain)
        is_target = (targets.sft_weights > 0).astype(jnp.float32)
        sums |= {"sft/tokens": jnp.sum(is_target), "sft/nll": -jnp.sum(is_target * plain)}
    if targets.policy_weights is not None:
        assert objective.policy is not None
        assert targets.sampler_logps is not None
        assert targets.advantages is not None
        weights = targets.policy_weights
        mask = (weights > 0).astype(jnp.float32)
        old_logps = jax.lax.stop_gradient(logps) if objective.on_policy else targets.old_logps
        assert old_logps is not None
        terms = policy_loss(
            logps,
            old_logps=old_logps,
            sampler_logps=targets.sampler_logps,
            ref_logps=targets.ref_logps,
            entropy=entropy,
            advantages=targets.advantages,
            mask=mask,
            continuation=targets.continuation,
            num_continuations=max(batch.emb_positions.shape[1], 1),
            config=objective.policy,
        )
        policy = jnp.sum(weights * terms.loss)
        value = value + policy
        sums |= {
            "policy/tokens": jnp.sum(mask),
            "policy/weighted_loss": policy,
            "policy/entropy": jnp.sum(mask * entropy),
            "policy/clipped": jnp.sum(mask * terms.clipped),
            "policy/kl": jnp.sum(mask * terms.kl),
            "policy/sampler_capped": jnp.sum(mask * terms.sampler_capped),
            "policy/gap": jnp.sum(mask * jnp.abs(old_logps - targets.sampler_logps)),
        }
    return value, TokenLosses(sums, logps)


def token_log_probs(
    decoder: Decoder,
    hidden: Float[Array, "B A D"],
    targets: Int[Array, "B A"],
    *,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> tuple[Float[Array, "B A"], Float[Array, "B A"]]:
    """Log-probability of each target and entropy of its distribution, in nats and float32.

    Logits are computed in chunks, so that those of a whole row are never in memory, and the
    backward pass computes them again. They are divided by the temperature of sampling, so that
    trainer and sampler refer to one distribution. Gradients flow to the log-probabilities and, if
    asked for, to the entropy, in the same pass.

    Args:
        decoder: decoder with final norm and LM head.
        hidden: hidden states, before the final norm, that predict the targets.
        targets: token ids.
        temperature: temperature of sampling; 1 for SFT.
        entropy_gradient: whether the entropy has a gradient, for an entropy bonus; otherwise it is
            a constant, which saves work in the backward pass.
    """
    logits_of = decoder.vocab_parallel_logits()
    # Reshapes of a single row lose its sharding unless it is given.
    by_row = decoder.rules.spec(activation_axes("bl"))

    def chunk(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        states, ids = inputs
        logits = logits_of(states) / temperature
        ids = jax.reshard(ids, jax.P(*jax.typeof(logits).sharding.spec[:2]))
        # One pass finds the maximum, and a second one all sums: logits are large and made of bytes.
        highest = jax.lax.stop_gradient(jnp.max(logits, axis=-1, keepdims=True))
        weights = jnp.exp(logits - highest)
        total = jnp.sum(weights, axis=-1)
        log_total = highest[..., 0] + jnp.log(total)
        # A comparison, not a gather: the vocabulary stays sharded over devices.
        is_target = jnp.arange(logits.shape[-1]) == ids[..., None]
        target_logits = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
        # Logits of vocabulary padding are -inf, and 0 * -inf is NaN, in the gradient too.
        finite = jnp.where(weights > 0, logits, 0.0)
        entropy = log_total - jnp.sum(weights * finite, axis=-1) / total
        if not entropy_gradient:
            entropy = jax.lax.stop_gradient(entropy)
        return jax.reshard((target_logits - log_total, entropy), by_row)

    count = targets.shape[1]
    size = min(CHUNK, count)
    # One program for all chunks: a row with a shared prefix has thousands of targets.
    logps, entropies = jax.lax.map(
        jax.checkpoint(chunk, prevent_cse=False),
        (_chunks(hidden, size, by_row), _chunks(targets, size, by_row)),
    )
    return _concatenated(logps, count, by_row), _concatenated(entropies, count, by_row)


def _chunks(array: Shaped[Array, "B A *D"], size: int, spec: jax.P) -> Shaped[Array, "K B C *D"]:
    """K chunks of C positions, the last one padded with zeros."""
    rows, count, *rest = array.shape
    padding = [(0, 0), (0, -count % size), *[(0, 0)] * len(rest)]
    padded = jnp.pad(array, padding)
    chunks = jnp.reshape(padded, (rows, -1, size, *rest), out_sharding=spec)
    return jnp.moveaxis(chunks, 1, 0)


def _concatenated(chunks: Float[Array, "K B C"], count: int, spec: jax.P) -> Float[Array, "B A"]:
    """The chunks side by side again, without padding."""
    rows = chunks.shape[1]
    return jnp.reshape(jnp.moveaxis(chunks, 0, 1), (rows, -1), out_sharding=spec)[:, :count]
