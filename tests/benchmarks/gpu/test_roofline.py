"""Ceilings: from data sheets for cards that are known, none for others."""

import pytest

from benchmarks.gpu.models import QWEN3_06B, QWEN3_4B
from benchmarks.gpu.roofline import bandwidth, decode_bytes, share
from t1_jax.model import peak_flops


def test_the_narrower_name_of_a_card_counts():
    assert bandwidth("NVIDIA H100 PCIe") == 2.0e12
    assert bandwidth("NVIDIA H100 80GB HBM3") == 3.35e12
    assert bandwidth("NVIDIA L40S") == 0.864e12
    assert bandwidth("NVIDIA A100-SXM4-40GB") == 1.56e12
    assert bandwidth("cpu") is None
    assert share(1.0, None) is None


def test_every_card_with_a_bandwidth_has_its_products_too():
    for card in ("NVIDIA H200", "NVIDIA H100 NVL", "NVIDIA A100 80GB PCIe", "NVIDIA L4"):
        assert bandwidth(card) is not None
        assert peak_flops(card) is not None


def test_a_step_reads_the_weights_once_and_a_shared_prefix_once():
    alone = decode_bytes(QWEN3_4B, prompts=1, samples=1, prefix=0, suffix=0)
    assert alone == pytest.approx(8.04e9, rel=0.01)  # 4.02 billion parameters in bf16
    token = 144 * 1024  # bytes of keys and values that a token of Qwen3-4B keeps
    shared = decode_bytes(QWEN3_4B, prompts=1, samples=8, prefix=1024, suffix=10)
    apart = decode_bytes(QWEN3_4B, prompts=8, samples=1, prefix=1024, suffix=10)
    assert shared - alone == token * (1024 + 8 * 10)
    assert apart - shared == token * 7 * 1024


def test_the_small_model_has_its_published_size():
    size = decode_bytes(QWEN3_06B, prompts=1, samples=1, prefix=0, suffix=0, width=1)
    assert size == pytest.approx(0.596e9, rel=0.01)
