import math
from collections.abc import Callable
from typing import Any

import hypothesis.strategies as st
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis.extra import numpy as hnp

from t1_jax.errors import ConfigError
from t1_jax.generate.sampling import (
    MAX_TEMPERATURE,
    MIN_TEMPERATURE,
    SamplingParams,
    choose_tokens,
    thought_keys,
    token_log_probs,
)

FEW = settings(max_examples=20)
"""Each example compiles: the filter's threshold is a constant of the program."""
LOGITS = hnp.arrays(np.float32, (1, 24), elements=st.floats(-8, 8, width=16), unique=True)


def softmax(logits: np.ndarray) -> np.ndarray:
    weights = np.exp(logits - logits.max(-1, keepdims=True), dtype=np.float64)
    return weights / weights.sum(-1, keepdims=True)


compiled = jax.jit(choose_tokens, static_argnames=("params",))


def choose(
    logits: np.ndarray,
    uniform: np.ndarray,
    run: Callable[..., jax.Array] = compiled,
    **options: Any,
) -> np.ndarray:
    rows = np.broadcast_to(logits, (len(uniform), logits.shape[-1]))
    params = SamplingParams(**options)
    return np.asarray(run(jnp.asarray(rows), jnp.asarray(uniform, jnp.float32), None, None, params))


def reachable(logits: np.ndarray, **options: Any) -> set[int]:
    """Every token that some uniform number leads to, on a grid finer than any probability.

    Not compiled as a whole, which would be once for each value of the options.
    """
    grid = (np.arange(20_000) + 0.5) / 20_000
    return set(choose(logits, grid, choose_tokens, **options).tolist())


def test_frequencies_are_the_softmax():
    logits = np.random.default_rng(0).normal(size=(1, 256)).astype(np.float32) * 2
    grid = (np.arange(200_000) + 0.5) / 200_000
    drawn = np.bincount(choose(logits, grid, temperature=0.7), minlength=256) / len(grid)
    np.testing.assert_allclose(drawn, softmax(logits / 0.7)[0], atol=2e-5)


def test_greedy_takes_the_most_likely_whatever_the_chance():
    logits = np.random.default_rng(1).normal(size=(1, 64)).astype(np.float32)
    assert set(choose(logits, np.linspace(0, 0.999, 7), temperature=0.0)) == {logits.argmax()}


@given(LOGITS, st.floats(0, 1, exclude_max=True, width=32))
def test_impossible_tokens_are_never_drawn(logits: np.ndarray, uniform: float):
    logits = logits.copy()
    logits[:, 3:] = -np.inf
    logits[:, 0] = -np.inf
    assert choose(logits, np.array([uniform]))[0] in (1, 2)


def test_the_largest_uniform_number_draws_a_real_token():
    logits = np.full((1, 256), -np.inf, np.float32)
    logits[0, :5] = 0
    assert choose(logits, np.array([np.nextafter(np.float32(1), np.float32(0))]))[0] == 4


def test_a_top_p_that_rounds_to_one_filters_nothing():
    logits = np.random.default_rng(0).normal(size=(1, 4096)).astype(np.float32)
    for uniform in (0.1, 0.5, 0.9):
        drawn = choose(logits, np.array([uniform], np.float32), top_p=1 - 1e-9)
        assert drawn == choose(logits, np.array([uniform], np.float32))


@pytest.mark.parametrize("top_p", [1 - 2**-24, 1 - 2**-23, 1 - 1e-6])
@pytest.mark.parametrize("vocabulary", [300, 151_936])
def test_a_top_p_just_below_one_masks_next_to_nothing(vocabulary: int, top_p: float):
    """A float32 softmax over a whole vocabulary may sum to less than such a top_p."""
    logits = np.random.default_rng(3).normal(size=(1, vocabulary)).astype(np.float32) * 2
    uniform = np.array([0.0, 0.25, 0.5, 0.75, np.nextafter(np.float32(1), np.float32(0))])
    probabilities = softmax(logits)[0]
    drawn = choose(logits, uniform, top_p=top_p)
    last = np.cumsum(probabilities)[drawn]
    assert np.all((last - probabilities[drawn] <= uniform + 1e-5) & (uniform <= last + 1e-5))


@pytest.mark.parametrize(
    ("weights", "top_p", "kept"),
    [
        ([4, 2, 1, 1], 0.5, {0}),  # exactly 4 of 8
        ([4, 2, 1, 1], 0.51, {0, 1}),
        ([4, 2, 1, 1], 0.75, {0, 1}),
        ([4, 2, 1, 1], 0.8, {0, 1, 2, 3}),  # the last two tie
        ([4, 2, 1, 1], 1e-6, {0}),
        ([1, 1, 1, 1], 1e-6, {0, 1, 2, 3}),
        ([1, 0, 0, 0], 1 - 2**-24, {0}),
    ],
)
def test_top_p_worked_by_hand(weights: list[float], top_p: float, kept: set[int]):
    with np.errstate(divide="ignore"):
        assert reachable(np.log(np.array([weights], np.float32)), top_p=top_p) == kept


@FEW
@given(LOGITS, st.integers(1, 24))
def test_top_k_keeps_the_k_most_likely(logits: np.ndarray, k: int):
    expected = set(np.argsort(-logits[0])[:k].tolist())
    assert reachable(logits / 8, top_k=k) == expected


@FEW
@given(LOGITS, st.floats(0.05, 0.999))
def test_top_p_keeps_the_smallest_set_that_reaches_p(logits: np.ndarray, p: float):
    probabilities = softmax(logits / 8)[0]
    order = np.argsort(-logits[0])  # not by probability: logits that differ by less may tie there
    before = np.cumsum(probabilities[order]) - probabilities[order]
    if np.abs(before - p).min() < 1e-5:
        return  # a cut that rounding decides
    assert reachable(logits / 8, top_p=p) == set(order[before < p].tolist())


@given(LOGITS, st.floats(0.01, 0.99))
def test_min_p_is_a_share_of_the_most_likely(logits: np.ndarray, share: float):
    probabilities = softmax(logits / 8)[0]
    ratio = probabilities / probabilities.max()
    if np.abs(ratio - share).min() < 1e-5:
        return
    assert reachable(logits / 8, min_p=share) == set(np.flatnonzero(ratio >= share).tolist())


def test_repetition_penalty_worked_by_hand():
    logits = jnp.array([[2.0, -1.0, 1.5, 1.2]])
    seen = jnp.array([[True, True, False, False]])
    options = SamplingParams(repetition_penalty=2.0, temperature=0.0)
    # 2.0 / 2 = 1.0 falls behind 1.5; -1.0 * 2 = -2.0.
    assert int(choose_tokens(logits, jnp.zeros(1), seen, None, options)[0]) == 2


def test_log_probs_are_those_of_the_plain_distribution_at_both_temperatures():
    logits = np.random.default_rng(2).normal(size=(5, 40)).astype(np.float32) * 3
    tokens = np.arange(5, dtype=np.int32) * 7
    sampled, at_one = token_log_probs(jnp.asarray(logits), jnp.asarray(tokens), 0.5)
    rows = np.arange(5)
    np.testing.assert_allclose(sampled, np.log(softmax(logits / 0.5))[rows, tokens], rtol=1e-5)
    np.testing.assert_allclose(at_one, np.log(softmax(logits))[rows, tokens], rtol=1e-5)


@pytest.mark.parametrize(
    "options",
    [
        *({"temperature": value} for value in (-1.0, math.nan, math.inf, 1e-38, 0.0099, 101.0)),
        *({"top_k": value} for value in (-1, 2**31)),
        *({"top_p": value} for value in (0.0, -0.5, 1.0001, math.nan, math.inf, 1e-38)),
        *({"min_p": value} for value in (-0.1, 1.5, math.nan, math.inf)),
        *({"repetition_penalty": value} for value in (0.0, -1.0, 1e-38, math.nan, math.inf)),
        {"min_length": -1},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_by_name(options: dict[str, Any]):
    with pytest.raises(ConfigError, match=next(iter(options))):
        SamplingParams(**options)


def test_a_temperature_that_is_all_but_greedy_is_answered_with_greedy():
    with pytest.raises(ConfigError, match="hint: set temperature=0 to always take the most likely"):
        SamplingParams(temperature=1e-38)


@pytest.mark.parametrize("temperature", [MIN_TEMPERATURE, MAX_TEMPERATURE])
def test_the_outermost_temperatures_are_the_softmax(temperature: float):
    logits = np.array([[30.0, 29.99, -30.0, -np.inf]], np.float32)
    grid = (np.arange(20_000) + 0.5) / 20_000
    drawn = np.bincount(choose(logits, grid, temperature=temperature), minlength=4) / len(grid)
    np.testing.assert_allclose(drawn, softmax(logits.astype(float) / temperature)[0], atol=2e-4)


def test_keys_are_a_function_of_seed_id_and_sample():
    base = thought_keys(0, "q1", 4)
    assert np.array_equal(base, thought_keys(0, "q1", 4))
    assert np.array_equal(base[:2], thought_keys(0, "q1", 2))
    others = [thought_keys(seed, "q1", 4) for seed in (1, 2**32, 9_000_000_000, 2**64 - 1)]
    rows = np.concatenate([base, thought_keys(0, "q2", 4), *others])
    assert len({tuple(row) for row in rows.tolist()}) == 24
