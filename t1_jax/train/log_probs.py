"""Log-probabilities of action tokens, in chunks, so that no row's logits are all in memory."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int, Shaped

from t1_jax.model import Decoder
from t1_jax.parallel import activation_axes

CHUNK = 64
"""Action tokens of a row whose logits are in memory at once."""


def take_slots(
    decoder: Decoder, hidden: Float[Array, "B L D"], slots: Int[Array, "B A"]
) -> Float[Array, "B A D"]:
    """The hidden states of some slots of each row."""
    rows = jnp.arange(hidden.shape[0])[:, None]
    return hidden.at[rows, slots].get(out_sharding=decoder.rules.spec(activation_axes("bld")))


def token_log_probs(
    decoder: Decoder,
    hidden: Float[Array, "B A D"],
    targets: Int[Array, "B A"],
    *,
    temperature: float = 1.0,
    entropy_gradient: bool = False,
) -> tuple[Float[Array, "B A"], Float[Array, "B A"]]:
    """Log-probability of each target and entropy of its distribution, in nats and float32.

    Logits are divided by the temperature at which the tokens were drawn, so that trainer and
    sampler speak of one distribution. The backward pass computes the logits again. Gradients flow
    to the log-probabilities and, where asked for, to the entropy, in the same pass.

    Args:
        decoder: for its final norm and head.
        hidden: states before the final norm that predict the targets.
        targets: token ids.
        temperature: of sampling; 1 for supervised losses.
        entropy_gradient: whether the entropy has a gradient, for an entropy bonus; otherwise it is
            a constant, which saves the backward pass the work.
    """

    def chunk(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        states, ids = inputs
        logits = decoder.logits(states) / temperature
        total = jax.nn.logsumexp(logits, axis=-1)
        # A comparison, not a gather: the vocabulary stays split over devices.
        is_target = jnp.arange(logits.shape[-1]) == ids[..., None]
        picked = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
        own, log_total = (logits, total)
        if not entropy_gradient:
            own, log_total = jax.lax.stop_gradient((logits, total))
        probabilities = jnp.exp(own - log_total[..., None])
        # Where the vocabulary is padded the logit is -inf, and 0 * -inf is no number, in the
        # gradient neither.
        finite = jnp.where(probabilities > 0, own, 0.0)
        return picked - total, log_total - jnp.sum(probabilities * finite, axis=-1)

    actions = targets.shape[1]
    size = min(CHUNK, actions)
    # Reshapes of a single row lose its sharding unless they are told it.
    by_row = decoder.rules.spec(activation_axes("bl"))
    # One program for all chunks: a packed row has thousands of action tokens.
    log_probs, entropies = jax.lax.map(
        jax.checkpoint(chunk, prevent_cse=False),
        (_chunks(hidden, size, by_row), _chunks(targets, size, by_row)),
    )
    return _joined(log_probs, actions, by_row), _joined(entropies, actions, by_row)


def _chunks(array: Shaped[Array, "B A *D"], size: int, spec: jax.P) -> Shaped[Array, "K B C *D"]:
    """K pieces of C slots, the last one filled up with zeros."""
    rows, actions, *rest = array.shape
    padding = [(0, 0), (0, -actions % size), *[(0, 0)] * len(rest)]
    padded = jnp.pad(array, padding)
    pieces = jnp.reshape(padded, (rows, -1, size, *rest), out_sharding=spec)
    return jnp.moveaxis(pieces, 1, 0)


def _joined(pieces: Float[Array, "K B C"], actions: int, spec: jax.P) -> Float[Array, "B A"]:
    """The pieces side by side again, without what filled them up."""
    rows = pieces.shape[1]
    return jnp.reshape(jnp.moveaxis(pieces, 0, 1), (rows, -1), out_sharding=spec)[:, :actions]
