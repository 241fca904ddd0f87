"""From logits to the next token: temperature, filters, and one uniform number per token."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int, UInt32

from t1_jax.errors import ConfigError
from t1_jax.seeds import check_seed, key_data

MIN_TEMPERATURE = 0.01
"""The lowest temperature above 0, as in vLLM: below it, logits / temperature may overflow float32.
Sampling at 0.01 is nearly greedy."""
MAX_TEMPERATURE = 100.0
"""The highest temperature; the distribution of any trained model is then nearly uniform."""

_ORDERED_MINUS_INFINITY = np.uint32(0x007FFFFF)
"""The bits of minus infinity, mapped to unsigned order as in `_threshold`."""


@dataclass(frozen=True, kw_only=True)
class SamplingParams:
    """How tokens are sampled. The filters apply in the order of the attributes.

    Attributes:
        temperature: divides the logits; from `MIN_TEMPERATURE` to `MAX_TEMPERATURE`, or 0 for
            greedy decoding.
        top_k: keep the k most likely tokens, and those tied with the last; 0 keeps all.
        top_p: keep the smallest set of most likely tokens whose probabilities sum to at least this,
            and those tied with the last (arXiv:1904.09751); 1 keeps all. The most likely token is
            always kept.
        min_p: keep tokens with at least this fraction of the highest probability
            (arXiv:2407.01082); 0 keeps all.
        repetition_penalty: logits of tokens that occur in the prompt or the thought are divided
            by this if positive and multiplied if negative (arXiv:1909.05858); 1 disables it.
        min_length: tokens before `<emb_token>` or an end of text may be sampled.
        seed: the random stream of a thought derives from seed, query id and sample number.

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
    """Rejects a temperature that is out of range, by the name of its setting.

    Raises:
        ConfigError: NaN, infinite, negative, too close to 0, or 0 where `greedy` is false.
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


def thought_keys(seed: int, query_id: str, n: int) -> UInt32[np.ndarray, "G 2"]:
    """Threefry key data of thoughts 0 .. n-1 of a query: a hash of seed, query id and number.

    So a thought does not depend on the batch around it.
    """
    return np.stack([key_data(seed, query_id, sample) for sample in range(n)])


def uniform_of(keys: UInt32[Array, "B 2"], count: Int[Array, " B"]) -> Float[Array, " B"]:
    """The uniform number in [0, 1) that samples the `count`-th token of each thought."""

    def draw(key: jax.Array, count: jax.Array) -> jax.Array:
        stream = jax.random.wrap_key_data(key, impl="threefry2x32")
        return jax.random.uniform(jax.random.fold_in(stream, count))

    return jax.vmap(draw)(keys, count)


def choose_tokens(
    logits: Float[Array, "B V"],
    uniform: Float[Array, " B"],
    seen: Bool[Array, "B V"] | None,
    banned: Bool[Array, "B V"] | None,
    params: SamplingParams,
) -> Int[Array, " B"]:
    """Samples one token per row.

    `logits` are minus infinity for tokens that are never sampled. `uniform`, in [0, 1), is the only
    source of randomness. The repetition penalty applies to `seen` tokens, and `min_length` makes
    others `banned`.
    """
    if seen is not None:
        penalty = params.repetition_penalty
        penalized = jnp.where(logits > 0, logits / penalty, logits * penalty)
        logits = jnp.where(seen, penalized, logits)
    if banned is not None:
        logits = jnp.where(banned, -jnp.inf, logits)
    if params.temperature == 0:
        return jnp.argmax(logits, axis=-1).astype(jnp.int32)
    logits = logits / params.temperature
    if params.top_k:
        k = min(params.top_k, logits.shape[-1])
        lowest = _threshold(logits, lambda above: jnp.sum(above, axis=-1) >= k)
        logits = jnp.where(logits >= lowest[:, None], logits, -jnp.inf)
    if np.float32(params.top_p) < 1:
        weights = jnp.exp(logits - jnp.max(logits, axis=-1, keepdims=True))
        # Relative to the float32 sum: a softmax may sum to less than a top_p close to 1.
        target = np.float32(params.top_p) * jnp.sum(weights, axis=-1)
        lowest = _threshold(
            logits, lambda above: jnp.sum(jnp.where(above, weights, 0), axis=-1) >= target
        )
        logits = jnp.where(logits >= lowest[:, None], logits, -jnp.inf)
    if params.min_p > 0:
        floor = jnp.max(logits, axis=-1, keepdims=True) + math.log(params.min_p)
        logits = jnp.where(logits >= floor, logits, -jnp.inf)
    return _inverse_cdf(logits, uniform)


def _threshold(logits: Float[Array, "B V"], enough) -> Float[Array, " B"]:
    """The largest value t of each row such that `enough(logits >= t)`, without sorting.

    If no value is enough (sums round), t is minus infinity, which keeps every token.

    With the bits of negative floats flipped, floats order like unsigned integers, so a binary
    search over 32 bits finds t exactly. Each step is one pass over the row; a sort costs log V
    passes and more.
    """
    bits = jax.lax.bitcast_convert_type(logits.astype(jnp.float32), jnp.uint32)
    ordered = jnp.where(bits >> 31 == 1, ~bits, bits | jnp.uint32(1 << 31))

    def halve(i: jax.Array, low: UInt32[Array, " B"]) -> UInt32[Array, " B"]:
        candidate = low | (jnp.uint32(1 << 31) >> i.astype(jnp.uint32))
        return jnp.where(enough(ordered >= candidate[:, None]), candidate, low)

    largest = jax.lax.fori_loop(0, 32, halve, jnp.zeros(logits.shape[0], jnp.uint32))
    largest = jnp.maximum(largest, _ORDERED_MINUS_INFINITY)
    bits = jnp.where(largest >> 31 == 1, largest & jnp.uint32((1 << 31) - 1), ~largest)
    return jax.lax.bitcast_convert_type(bits, jnp.float32)


def _inverse_cdf(logits: Float[Array, "B V"], uniform: Float[Array, " B"]) -> Int[Array, " B"]:
    """The token at which the cumulative probability first exceeds `uniform`.

    It searches blocks first and then the tokens of one block, so nothing of size V is scanned. One
    random number per row replaces the V of the Gumbel trick.
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
    """First column beyond the target, at most the last positive one (sums round)."""
    columns = jnp.arange(cumulative.shape[-1])
    first = jnp.sum(cumulative <= target, axis=-1, keepdims=True)
    last = jnp.max(jnp.where(positive, columns, 0), axis=-1, keepdims=True)
    return jnp.minimum(first, last)


def token_log_probs(
    logits: Float[Array, "B V"], tokens: Int[Array, " B"], temperature: float
) -> tuple[Float[Array, " B"], Float[Array, " B"]]:
    """Log-probabilities in nats at the sampling temperature and at 1, before any filter.

    They are those of the policy: a full forward pass over the same tokens gives the same. With
    greedy decoding (temperature 0) both are at temperature 1.
    """
    at_one = _log_prob(logits, tokens)
    if temperature in (0.0, 1.0):
        return at_one, at_one
    return _log_prob(logits / temperature, tokens), at_one


def _log_prob(logits: Float[Array, "B V"], tokens: Int[Array, " B"]) -> Float[Array, " B"]:
    chosen = jnp.take_along_axis(logits, tokens[:, None], axis=-1)[:, 0]
    return chosen - jax.nn.logsumexp(logits, axis=-1)
