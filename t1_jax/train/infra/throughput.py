"""How fast a run is: tokens a second, and the share of the hardware's peak that it uses (MFU)."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import jax

from t1_jax.model import DecoderConfig

Work = Literal["forward", "train", "lora"]
"""What is done with a token: read, learn with all weights, or learn with adapters alone."""

_PEAKS = (
    ("h200", 989e12),
    ("h100 pcie", 756e12),
    ("h100 nvl", 835e12),
    ("h100", 989e12),
    ("h800", 989e12),
    ("a100", 312e12),
    ("a800", 312e12),
    ("l40s", 362e12),
    ("l40", 181e12),
    ("l4", 121e12),
    ("tpu v6", 918e12),
    ("tpu v5 lite", 197e12),
    ("tpu v5e", 197e12),
    ("tpu v5", 459e12),
    ("tpu v4", 275e12),
)
"""Dense bfloat16 FLOP/s by what a device's kind contains, from the makers' data sheets; the first
entry that fits counts, so the narrower names stand first."""


def peak_flops(device_kind: str) -> float | None:
    """Peak dense bfloat16 FLOP/s of a device by `jax.Device.device_kind`; None if not known.

    CPUs are not known: their peak depends on clock and vector units that no name tells.
    """
    kind = device_kind.lower()
    return next((peak for name, peak in _PEAKS if name in kind), None)


def total_peak_flops() -> float | None:
    """Peak FLOP/s of all devices of the run; None if one of them is not known."""
    peaks = [peak_flops(device.device_kind) for device in jax.devices()]
    known = [peak for peak in peaks if peak is not None]
    return sum(known) if len(known) == len(peaks) else None


def body_parameters(config: DecoderConfig) -> int:
    """Weights of the layers' matrix products; embedding, head, norms and biases are left out."""
    heads, kv_heads = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    attention = config.embed_dim * (2 * heads + 2 * kv_heads)
    return config.num_layers * (attention + 3 * config.embed_dim * config.mlp_dim)


def flops_per_token(
    config: DecoderConfig, *, work: Work, context: float | int, read: float | int = 0
) -> float:
    """Floating-point operations that one token takes.

    A matrix of n weights takes 2n forward, 2n for the gradient of its input and 2n for its own
    (arXiv:2001.08361, section 2.1: 6N), which frozen weights under adapters do not need (4N).
    Attention has no weights of its own: 4·N·H·context forward and twice that backward, also under
    adapters. What remat computes again is not counted, as is usual for MFU.

    Args:
        config: the decoder.
        work: see `Work`.
        context: keys a token attends to on average, itself included: about half the length of a
            causal row. Layers with a window see at most that.
        read: share of tokens whose logits are computed too; documents never need theirs.
    """
    factor = {"forward": 2, "train": 6, "lora": 4}[work]
    weights = body_parameters(config) + read * config.vocab_size * config.embed_dim
    keys = sum(min(context, window) if window else context for window in config.windows)
    passes = 1 if work == "forward" else 3
    attention = passes * 4 * config.num_heads * config.head_dim * keys
    return float(factor * weights + attention)


class Meter:
    """Counts tokens and their work, and gives the speed since it was last read.

    Args:
        peak: FLOP/s of all devices; None if not known, and then no MFU is given.
        tokens: already trained on before the run was resumed.
        clock: seconds.
    """

    def __init__(
        self,
        peak: float | None,
        *,
        tokens: int = 0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.tokens = tokens
        self._peak = peak
        self._clock = clock
        self._restart()

    def add(self, tokens: int, flops: float | int = 0.0) -> None:
        """Counts `tokens` that took `flops` in all, over all devices."""
        self.tokens += tokens
        self._flops += flops

    def read(self) -> dict[str, float]:
        """`tokens` in all, `tokens_per_second` since the last reading, and `mfu` from 0 to 1.

        MFU is left out where the peak or the work is not known.
        """
        seconds = max(self._clock() - self._read_at, 1e-9)
        rates = {
            "tokens": float(self.tokens),
            "tokens_per_second": (self.tokens - self._tokens_read) / seconds,
        }
        if self._peak is not None and self._flops:
            rates["mfu"] = self._flops / seconds / self._peak
        self._restart()
        return rates

    def _restart(self) -> None:
        self._read_at = self._clock()
        self._tokens_read = self.tokens
        self._flops = 0.0


@dataclass(kw_only=True)
class Clock:
    """Seconds of a step by what they went into.

    Attributes:
        seconds: `time/<name>` -> seconds, as metrics are named.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Adds the time inside the context to `time/<name>`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            key = f"time/{name}"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - start
