"""Log-probabilities of action tokens, in chunks, so that no row's logits are all in memory."""

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, Int

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
) -> tuple[Float[Array, "B A"], Float[Array, "B A"]]:
    """Log-probability of each target and entropy of its distribution, in nats and float32.

    Logits are divided by the temperature at which the tokens were drawn, so that trainer and
    sampler speak of one distribution. The backward pass computes the logits again.

    Args:
        decoder: for its final norm and head.
        hidden: states before the final norm that predict the targets.
        targets: token ids.
        temperature: of sampling; 1 for supervised losses.
    """

    def chunk(inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        states, ids = inputs
        logits = decoder.logits(states) / temperature
        total = jax.nn.logsumexp(logits, axis=-1)
        # A comparison, not a gather: the vocabulary stays split over devices.
        is_target = jnp.arange(logits.shape[-1]) == ids[..., None]
        picked = jnp.sum(jnp.where(is_target, logits, 0.0), axis=-1)
        fixed = jax.lax.stop_gradient(logits)
        probabilities = jnp.exp(fixed - jax.lax.stop_gradient(total)[..., None])
        entropy = total - jnp.sum(jnp.where(probabilities > 0, probabilities * fixed, 0.0), axis=-1)
        return picked - total, jax.lax.stop_gradient(entropy)

    actions = targets.shape[1]
    pieces = [
        jax.checkpoint(chunk)((hidden[:, at : at + CHUNK], targets[:, at : at + CHUNK]))
        for at in range(0, actions, CHUNK)
    ]
    log_probs, entropies = (jnp.concatenate(part, axis=1) for part in zip(*pieces, strict=True))
    return log_probs, entropies
