"""What a card could do: peaks from the makers' data sheets, work and bytes of the models."""

import time
from collections.abc import Callable
from typing import Any

import jax

from t1_jax.model import DecoderConfig, Work, body_parameters, flops_per_token, peak_flops

_BANDWIDTHS = (
    ("h200", 4.8e12),
    ("h100 nvl", 3.9e12),
    ("h100 pcie", 2.0e12),
    ("h100", 3.35e12),
    ("h800", 3.35e12),
    ("a100-sxm4-80gb", 2.04e12),
    ("a100 80gb", 1.94e12),
    ("a100", 1.56e12),
    ("l40", 0.864e12),
    ("l4", 0.3e12),
)
"""Bytes/s of device memory by what a card's name contains; the first entry that fits counts."""


def bandwidth(card: str) -> float | None:
    """Peak bytes/s of the memory of a card; None if it is not known, and then no share is given."""
    name = card.lower()
    return next((peak for key, peak in _BANDWIDTHS if key in name), None)


def share(value: float, peak: float | None) -> float | None:
    """The part of a known ceiling."""
    return None if peak is None else value / peak


def mfu(
    config: DecoderConfig, tokens_per_second: float, *, work: Work, context: float, read: float = 0
) -> float | None:
    """Model FLOP/s over the card's peak; see `flops_per_token` for the arguments."""
    flops = flops_per_token(config, work=work, context=context, read=read)
    return share(flops * tokens_per_second, peak_flops(jax.devices()[0].device_kind))


def decode_bytes(
    config: DecoderConfig,
    *,
    prompts: int,
    samples: int,
    prefix: int,
    suffix: float,
    width: int = 2,
) -> float:
    """Fewest bytes that one decoding step moves: weights once, the prefix of each prompt once for
    all its thoughts, and the suffix of each thought.

    Args:
        config: the decoder.
        prompts: P.
        samples: G thoughts of each.
        prefix: tokens of a prompt.
        suffix: tokens of a thought so far, on average over the steps.
        width: bytes of a number.
    """
    weights = body_parameters(config) + config.vocab_size * config.embed_dim
    kept = 2 * config.num_layers * config.num_kv_heads * config.head_dim
    read = prompts * prefix + prompts * samples * suffix
    return width * (weights + kept * read)


def timed(call: Callable[[], Any], *, rounds: int) -> tuple[float, float]:
    """Seconds of the first call, which compiles, and of each of `rounds` later ones.

    Later calls are dispatched one after the other without waiting, as a loop over batches does: on
    some machines an answer to the host takes 0.2 ms.
    """
    start = time.perf_counter()
    jax.block_until_ready(call())
    first = time.perf_counter() - start
    jax.block_until_ready(call())
    start = time.perf_counter()
    for _ in range(rounds - 1):
        call()
    jax.block_until_ready(call())
    return first, (time.perf_counter() - start) / rounds
