"""FLOPs of the decoder per token, and the peak speed of devices: what MFU is made of."""

from typing import Literal

import jax

from t1_jax.model.config import DecoderConfig
from t1_jax.parallel import CHIPS

Work = Literal["forward", "train", "lora"]
"""What is computed for a token: forward only, or an update of all weights or of adapters."""

_PEAKS = (
    ("h200", CHIPS["h200"].peak_flops),
    ("h100 pcie", 756e12),
    ("h100 nvl", 835e12),
    ("h100", CHIPS["h100"].peak_flops),
    ("h800", 989e12),
    ("a100", 312e12),
    ("a800", 312e12),
    ("l40s", 362e12),
    ("l40", 181e12),
    ("l4", 121e12),
    ("tpu v6", CHIPS["v6e"].peak_flops),
    ("tpu v5 lite", CHIPS["v5e"].peak_flops),
    ("tpu v5e", CHIPS["v5e"].peak_flops),
    ("tpu v5", CHIPS["v5p"].peak_flops),
    ("tpu v4", 275e12),
)
"""Dense bfloat16 FLOP/s by a substring of the device kind, from data sheets. The first match
counts, so longer names come first."""


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of a `jax.Device.device_kind`; None if unknown, as for CPUs."""
    kind = device_kind.lower()
    return next((peak for name, peak in _PEAKS if name in kind), None)


def total_peak_flops() -> float | None:
    """Peak FLOP/s of all devices of the run; None if one of them is unknown."""
    peaks = [peak_flops(device.device_kind) for device in jax.devices()]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def body_parameters(config: DecoderConfig) -> int:
    """Weights of the layers' matrix products, without embedding, head, norms and biases."""
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention = config.embed_dim * (2 * heads + 2 * kv_heads)
    return config.num_layers * (attention + 3 * config.embed_dim * config.mlp_dim)


def flops_per_token(
    config: DecoderConfig, *, work: Work, context: float | int, read: float | int = 0
) -> float:
    """FLOPs per token.

    A matrix of n weights takes 2n FLOPs forward, 2n for the gradient of its input and 2n for its
    own gradient (arXiv:2001.08361, section 2.1: 6N); frozen weights under adapters skip the last
    (4N). Attention takes 4·N·H·context forward and twice that backward, also under adapters.
    Recomputation by remat is not counted, as is usual for MFU.

    Args:
        config: of the decoder.
        work: see `Work`.
        context: mean number of keys per token, itself included: about half the length of a causal
            row. Layers with a window see at most the window.
        read: fraction of tokens whose logits are computed.
    """
    factor = {"forward": 2, "train": 6, "lora": 4}[work]
    weights = body_parameters(config) + read * config.vocab_size * config.embed_dim
    keys = sum(min(context, window) if window else context for window in config.windows)
    passes = 1 if work == "forward" else 3
    attention = passes * 4 * config.num_heads * config.head_dim * keys
    return float(factor * weights + attention)
