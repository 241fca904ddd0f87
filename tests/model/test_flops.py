"""FLOPs against XLA's own count, and peaks of known devices."""

import dataclasses

import jax
import jax.numpy as jnp
import pytest

from t1_jax.model import (
    DecoderConfig,
    RopeConfig,
    body_parameters,
    flops_per_token,
    peak_flops,
    total_peak_flops,
)

CONFIG = DecoderConfig(
    family="llama",
    vocab_size=1000,
    embed_dim=64,
    num_layers=3,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    mlp_dim=128,
    norm_eps=1e-5,
    rope=RopeConfig(theta=1e4),
    max_positions=512,
)


def test_work_is_counted_by_hand() -> None:
    body = 3 * (64 * 64 * 2 + 64 * 32 * 2 + 3 * 64 * 128)
    attention = 3 * 4 * 4 * 16 * 10
    head = 1000 * 64
    assert body_parameters(CONFIG) == body
    assert flops_per_token(CONFIG, work="forward", context=10) == 2 * body + attention
    assert flops_per_token(CONFIG, work="train", context=10) == 6 * body + 3 * attention
    assert flops_per_token(CONFIG, work="lora", context=10) == 4 * body + 3 * attention
    assert flops_per_token(CONFIG, work="train", context=10, read=1) == pytest.approx(
        6 * (body + head) + 3 * attention
    )


def test_windows_bound_the_context() -> None:
    config = dataclasses.replace(CONFIG, windows=(0, 4, 100))
    few = flops_per_token(config, work="forward", context=10)
    assert few - 2 * body_parameters(config) == 4 * 4 * 16 * (10 + 4 + 10)


def test_a_known_model_has_its_published_size() -> None:
    """Qwen3-4B: 3.6 billion parameters without the embedding; 24.1 GFLOP/token with the head."""
    config = DecoderConfig(
        family="qwen3",
        vocab_size=151936,
        embed_dim=2560,
        num_layers=36,
        num_heads=32,
        num_kv_heads=8,
        head_dim=128,
        mlp_dim=9728,
        norm_eps=1e-6,
        rope=RopeConfig(theta=5e6),
        max_positions=262144,
    )
    assert body_parameters(config) == pytest.approx(3.633e9, rel=1e-3)
    whole = flops_per_token(config, work="train", context=0, read=1)
    assert whole == pytest.approx(24.1e9, rel=0.01)


def test_one_layer_agrees_with_the_compiler() -> None:
    """XLA counts the same operations for a matrix product, forward and with its gradients."""
    x, w = jnp.ones((8, 64)), jnp.ones((64, 128))

    def flops(function: object) -> float:
        analysis = jax.jit(function).lower(x, w).compile().cost_analysis()  # pyright: ignore
        assert analysis is not None
        return analysis["flops"] / 8

    forward = flops(lambda x, w: x @ w)
    both = flops(jax.grad(lambda x, w: ((x @ w) ** 2).sum(), argnums=(0, 1)))
    assert forward == pytest.approx(2 * 64 * 128, rel=0.01)
    assert both == pytest.approx(6 * 64 * 128, rel=0.02)


@pytest.mark.parametrize(
    ("kind", "tera"),
    [
        ("NVIDIA H100 80GB HBM3", 989),
        ("NVIDIA H100 PCIe", 756),
        ("NVIDIA H200", 989),
        ("NVIDIA A100-SXM4-80GB", 312),
        ("TPU v5 lite", 197),
        ("TPU v5e", 197),
        ("TPU v5p", 459),
        ("TPU v5", 459),
        ("TPU v6 lite", 918),
        ("TPU v6e", 918),
    ],
)
def test_peaks_of_known_devices(kind: str, tera: float) -> None:
    assert peak_flops(kind) == tera * 1e12


def test_the_peak_of_a_cpu_is_not_known() -> None:
    assert peak_flops("cpu") is None
    assert total_peak_flops() is None
