"""From logits to the next token: temperature, filters and one uniform number per draw."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from t1_jax.errors import ConfigError
from t1_jax.seeds import check_seed

MIN_TEMPERATURE = 0.01
"""The lowest temperature above 0, as in vLLM: below it, logits / temperature may overflow float32.
Sampling at 0.01 is greedy in all but name."""
MAX_TEMPERATURE = 100.0
"""The highest temperature: log-probabilities are then all but uniform for any trained model."""


_ORDERED_MINUS_INFINITY = np.uint32(0x007FFFFF)
"""The bits of minus infinity, flipped as `_threshold` flips those of negative numbers."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How thoughts are drawn. The filters apply in the order in which they stand here.

    Attributes:
        temperature: divides the logits; 0 takes the most likely token, else from
            `MIN_TEMPERATURE` to `MAX_TEMPERATURE`.
        top_k: keep the k most likely tokens, and those tied with the last; 0 keeps all.
        top_p: keep the smallest set of most likely tokens whose probabilities sum to at least this,
            and those tied with the last (arXiv:1904.09751); 1 keeps all. The most likely token is
            always kept.
        min_p: keep tokens at least this share as likely as the most likely one
            (arXiv:2407.01082); 0 keeps all.
        repetition_penalty: logits of tokens that stand in the prompt or the thought are divided
            by this where positive and multiplied where negative (arXiv:1909.05858); 1 is off.
        min_length: tokens before `<emb_token>` or an end of text may be drawn.
        seed: of the whole run; each thought derives its own stream from it.

    Raises:
        ConfigError: a value out of its range, NaN or infinite.
    """

    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    min_length: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        check_temperature("temperature", self.temperature)
        for name, value, low, high in (
            ("top_p", self.top_p, 1e-6, 1.0),
            ("min_p", self.min_p, 0.0, 1.0),
            ("repetition_penalty", self.repetition_penalty, 0.01, 100.0),
            ("top_k", self.top_k, 0, 2**31 - 1),
            ("min_length", self.min_length, 0, 2**31 - 1),
        ):
            if not low <= value <= high:
                raise ConfigError(f"{name} must lie between {low:g} and {high:g}, got {value}")
        check_seed(self.seed)


def check_temperature(name: str, value: float, *, greedy: bool = True) -> None:
    """Refuses a temperature that cannot be sampled at.

    Args:
        name: of the setting, for the error.
        value: the temperature.
        greedy: whether 0, which takes the most likely token, is one.

    Raises:
        ConfigError: NaN, infinite, negative, or too close to 0.
    """
    if MIN_TEMPERATURE <= value <= MAX_TEMPERATURE or (greedy and value == 0):
        return
    hint = f"set {name}=1"
    if greedy and 0 < value < MIN_TEMPERATURE:
        hint = f"set {name}=0 to always take the most likely token"
    raise ConfigError(
        f"{name} must lie between {MIN_TEMPERATURE:g} and {MAX_TEMPERATURE:g}"
        f"{', or be 0 (greedy)' if greedy else ''}, got {value}",
        hint=hint,
    )


def choose_tokens(
    logits: Float[Array, "B V"],
    uniform: Float[Array, " B"],
    seen: Bool[Array, "B V"] | None,
    banned: Bool[Array, "B V"] | None,
    options: SamplingParams,
) -> Int[Array, " B"]:
    """Draws one token per row.

    Args:
        logits: the model's, minus infinity where no token may be drawn.
        uniform: one number in [0, 1) per row, the only source of chance.
        seen: tokens the repetition penalty applies to.
        banned: tokens that may not be drawn now (`min_length`).
        options: how to draw.
    """
    if seen is not None:
        penalty = options.repetition_penalty
        penalized = jnp.where(logits > 0, logits / penalty, logits * penalty)
        logits = jnp.where(seen, penalized, logits)
    if banned is not None:
        logits = jnp.where(banned, -jnp.inf, logits)
    if options.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / options.temperature
    if options.top_k:
        k = min(options.top_k, logits.shape[-1])
        kept = _threshold(logits, lambda above: jnp.sum(above, axis=-1) >= k)
        logits = jnp.where(logits >= kept[:, None], logits, -jnp.inf)
    if np.float32(options.top_p) < 1:
        weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        # A share of the sum that float32 has: a softmax may sum to less than a top_p close to 1.
        target = np.float32(options.top_p) * jnp.sum(weights, axis=-1)
        kept = _threshold(
            logits, lambda above: jnp.sum(jnp.where(above, weights, 0), axis=-1) >= target
        )
        logits = jnp.where(logits >= kept[:, None], logits, -jnp.inf)
    if options.min_p > 0:
        floor = jnp.max(logits, axis=-1, keepdims=True) + math.log(options.min_p)
        logits = jnp.where(logits >= floor, logits, -jnp.inf)
    return _inverse_cdf(logits, uniform)


def _threshold(logits: Float[Array, "B V"], enough) -> Float[Array, " B"]:
    """The largest value t of each row such that `enough(logits >= t)`, without sorting.

    Minus infinity, which keeps everything, where no value is enough: sums round.

    Floats order like their bits once negative ones are flipped, so 32 halvings of the range of
    bits find t exactly; each is one pass over the row, where a sort costs log V passes and more.
    """
    bits = jax.lax.bitcast_convert_type(logits.astype(jnp.float32), jnp.uint32)
    ordered = jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))

    def halve(i: jax.Array, low: UInt32[Array, " B"]) -> UInt32[Array, " B"]:
        candidate = low | (jnp.uint32(1 << 31) >> i.astype(jnp.uint32))
        return jnp.where(enough(ordered >= candidate[:, None]), candidate, low)

    found = jax.lax.fori_loop(0, 32, halve, jnp.zeros(logits.shape[0], jnp.uint32))
    found = jnp.maximum(found, _ORDERED_MINUS_INFINITY)
    bits = jnp.where(found >> 31 == 1, found & jnp.uint32((1 << 31) - 1), ~found)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _inverse_cdf(logits: Float[Array, "B V"], uniform: Float[Array, " B"]) -> Int[Array, " B"]:
    """The token at which the cumulative probability first exceeds `uniform`.

    Two levels, blocks and then tokens of one block, so that nothing of size V is scanned, and one
    random number a row instead of V of them.
    """
    rows, vocab = logits.shape
    width = math.gcd(vocab, 128)
    weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
    weights = weights.reshape(rows, vocab // width, width)
    sums = jnp.cumsum(jnp.sum(weights, axis=-1), axis=-1)
    target = (uniform * sums[:, -1])[:, None]
    block = _first_beyond(sums, target, positive=jnp.sum(weights, axis=-1) > 0)
    before = jnp.where(block > 0, jnp.take_along_axis(sums, jnp.maximum(block - 1, 0), axis=1), 0)
    inside = jnp.take_along_axis(weights, block[:, :, None], axis=1)[:, 0]
    token = _first_beyond(jnp.cumsum(inside, axis=-1), target - before, positive=inside > 0)
    return (block * width + token)[:, 0].astype(jnp.int32)


def _first_beyond(
    cumulative: Float[Array, "B C"], target: Float[Array, "B 1"], positive: Bool[Array, "B C"]
) -> Int[Array, "B 1"]:
    """First column beyond the target; rounding at the end falls back to the last possible one."""
    columns = jnp.arange(cumulative.shape[-1])
    first = jnp.sum(cumulative <= target, axis=-1, keepdims=True)
    last = jnp.max(jnp.where(positive, columns, 0), axis=-1, keepdims=True)
    return jnp.minimum(first, last)


def token_log_probs(
    logits: Float[Array, "B V"], tokens: Int[Array, " B"], temperature: float
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Log-probabilities, in nats, at the sampling temperature and at 1, before any filter.

    These are the policy's: a trainer's full forward over the same tokens finds the same. Under
    greedy decoding (temperature 0) both are at 1.
    """
    at_one = _log_prob(logits, tokens)
    if temperature in (0.0, 1.0):
        return at_one, at_one
    return _log_prob(logits / temperature, tokens), at_one


def _log_prob(logits: Float[Array, "B V"], tokens: Int[Array, " B"]) -> Float[Array, " B"]:
    picked = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return picked - jax.nn.logsumexp(logits, axis=-1)
