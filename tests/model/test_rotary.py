"""Rotary angles: worked by hand, and against transformers where PyTorch is installed."""

import math
from dataclasses import replace
from types import SimpleNamespace

import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.model import RopeConfig
from t1_jax.model.rotary import inverse_frequencies, rotary_tables, rotate

LLAMA3 = RopeConfig(
    theta=16.0, kind="llama3", factor=8.0, original_max_positions=64, low_freq_factor=1.0
)
YARN = RopeConfig(
    theta=16.0, kind="yarn", factor=4.0, original_max_positions=64, beta_fast=4.0, beta_slow=1.0
)


def test_plain_and_linear_series() -> None:
    # 16^0, 16^-1/4, 16^-2/4, 16^-3/4
    np.testing.assert_allclose(
        inverse_frequencies(RopeConfig(theta=16.0), 8), [1, 0.5, 0.25, 0.125], rtol=1e-6
    )
    np.testing.assert_allclose(
        inverse_frequencies(RopeConfig(theta=16.0, kind="linear", factor=4.0), 8),
        [0.25, 0.125, 0.0625, 0.03125],
        rtol=1e-6,
    )


def test_llama3_keeps_short_divides_long_and_blends_between() -> None:
    # Over 64 tokens the four pairs turn 10.19, 5.09, 2.546 and 1.273 times; from 4 turns on they
    # are kept, and 2.546 and 1.273 stand at .51549 and .09108 of the way from 1 turn to 4.
    np.testing.assert_allclose(
        inverse_frequencies(LLAMA3, 8), [1, 0.5, 0.1440141, 0.0255869], rtol=1e-5
    )
    long = inverse_frequencies(replace(LLAMA3, low_freq_factor=3.0), 8)
    np.testing.assert_allclose(long, [1, 0.5, 0.25 / 8, 0.125 / 8], rtol=1e-6)


def test_yarn_ramps_over_whole_dimensions_or_not() -> None:
    # Pair 1.3485 turns 4 times and pair 3.3485 once: rounded outwards to 1 and 4, the ramp is
    # 0, 0, 1/3, 2/3.
    np.testing.assert_allclose(
        inverse_frequencies(YARN, 8), [1, 0.5, 0.25 * 0.75, 0.125 * 0.5], rtol=1e-6
    )
    np.testing.assert_allclose(
        inverse_frequencies(replace(YARN, truncate=False), 8),
        [1, 0.5, 0.188923, 0.0475867],
        rtol=1e-4,
    )


def test_yarn_multiplies_cos_and_sin() -> None:
    positions = jnp.array([[3]])
    plain = rotary_tables(YARN, 8, positions)
    scaled = rotary_tables(replace(YARN, attention_factor=1.5), 8, positions)
    np.testing.assert_allclose(scaled[0], 1.5 * plain[0], rtol=1e-6)
    np.testing.assert_allclose(scaled[1], 1.5 * plain[1], rtol=1e-6)


def test_frequencies_are_rounded_to_float32_at_every_step() -> None:
    """Those that checkpoints are trained with: PyTorch 2.13's 1 / 1e6 ** (2i / 128) in float32."""
    frequencies = inverse_frequencies(RopeConfig(theta=1e6), 128)
    bits = frequencies[[1, 13, 40, 63]].view(np.uint32).tolist()
    assert bits == [1062095789, 1031243027, 960132947, 900107852]
    exact = 1e6 ** -(np.array([1, 13, 40, 63]) / 64)
    assert not np.array_equal(frequencies[[1, 13, 40, 63]], exact.astype(np.float32))


def test_dynamic_scaling_does_nothing_within_the_context() -> None:
    dynamic = RopeConfig(theta=1e4, kind="dynamic", factor=4.0)
    np.testing.assert_array_equal(
        inverse_frequencies(dynamic, 64), inverse_frequencies(RopeConfig(theta=1e4), 64)
    )


@pytest.mark.parametrize("kind", ["dynamic", "linear", "llama3", "yarn", "yarn-untruncated"])
def test_same_as_transformers(kind: str) -> None:
    pytest.importorskip("torch")
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    head_dim, theta = 48, 12345.0
    fields = {
        "dynamic": {"factor": 3.0},
        "linear": {"factor": 3.0},
        "llama3": {
            "factor": 8.0,
            "original_max_positions": 512,
            "low_freq_factor": 1.0,
            "high_freq_factor": 5.0,
        },
        "yarn": {"factor": 4.0, "original_max_positions": 512, "beta_fast": 30.0},
    }[kind.split("-")[0]]
    truncate = not kind.endswith("untruncated")
    kind = kind.split("-")[0]
    renamed = {
        name.replace("original_max_positions", "original_max_position_embeddings"): value
        for name, value in fields.items()
    }
    parameters = {"rope_type": kind, "rope_theta": theta, **renamed}
    if not truncate:
        parameters["truncate"] = False
    config = SimpleNamespace(
        rope_parameters=parameters,
        head_dim=head_dim,
        hidden_size=head_dim,
        num_attention_heads=1,
        max_position_embeddings=2048,
        standardize_rope_params=lambda: None,
    )
    theirs, factor = ROPE_INIT_FUNCTIONS[kind](config, device="cpu")
    ours = inverse_frequencies(RopeConfig(theta=theta, kind=kind, truncate=truncate, **fields), 48)
    np.testing.assert_array_equal(ours, theirs.numpy())
    assert factor == pytest.approx(0.1 * math.log(4.0) + 1 if kind == "yarn" else 1.0)


def test_rotation_is_half_split_and_keeps_lengths() -> None:
    x = jnp.array([[[[1.0, 2.0, 3.0, 4.0]]]])
    cos, sin = rotary_tables(RopeConfig(theta=16.0), 4, jnp.array([[1]]))
    turned = np.asarray(rotate(x, cos, sin))[0, 0, 0]
    # Pairs are (1, 3), turned by 1 radian, and (2, 4), turned by 1/4.
    c, s = math.cos(1.0), math.sin(1.0)
    assert turned[[0, 2]] == pytest.approx([c - 3 * s, 3 * c + s])
    assert np.linalg.norm(turned) == pytest.approx(math.sqrt(30))


def test_scores_depend_on_the_distance_alone() -> None:
    generator = np.random.default_rng(0)
    q, k = (jnp.asarray(generator.standard_normal((1, 1, 1, 16)), jnp.float32) for _ in "qk")

    def score(at_q: int, at_k: int) -> float:
        turned = [
            rotate(x, *rotary_tables(RopeConfig(theta=100.0), 16, jnp.array([[at]])))
            for x, at in ((q, at_q), (k, at_k))
        ]
        return float(jnp.vdot(turned[0], turned[1]))

    assert score(7, 3) == pytest.approx(score(507, 503), abs=1e-3)
    assert abs(score(7, 3) - score(7, 4)) > 1e-2


def test_angles_past_256_are_not_rounded_for_bf16_inputs() -> None:
    positions = jnp.array([[256, 257, 4001]])
    cos, sin = rotary_tables(RopeConfig(theta=1e4), 2, positions)
    assert cos.dtype == sin.dtype == jnp.float32
    np.testing.assert_allclose(cos[0, :, 0], np.cos([256, 257, 4001]), atol=1e-4)
    x = jnp.ones((1, 3, 1, 2), jnp.bfloat16)
    turned = rotate(x, cos, sin)
    assert turned.dtype == jnp.bfloat16
    expected = np.cos([256, 257, 4001]) - np.sin([256, 257, 4001])
    np.testing.assert_allclose(np.asarray(turned[0, :, 0, 0], np.float32), expected, atol=1e-2)
