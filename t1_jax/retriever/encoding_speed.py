"""How fast documents are encoded: tokens per second, padding, MFU, and time outside the model."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Int

from t1_jax.model import flops_per_token, peak_flops

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1


@dataclass(frozen=True, kw_only=True)
class EncodingSpeed:
    """How fast shards were encoded, from the first one on.

    Attributes:
        seconds: in all.
        tokens_per_second: without padding.
        padding: part of the computed slots that was padding.
        mfu: FLOPs of the tokens without padding over the peak of the devices, 0 to 1; None if the
            peak is unknown, as for CPUs.
        waited: seconds in which the device waited for tokens, without those of the first shard.
        overhead: part of the time outside of the model: waiting, reading, writing.
    """

    seconds: float
    tokens_per_second: float
    padding: float
    mfu: float | None
    waited: float
    overhead: float


class EncodingMeter:
    """Measures the encoding of shards.

    Args:
        model: encodes them.
    """

    def __init__(self, model: "T1") -> None:
        devices = model.mesh_context.mesh.devices.flatten()
        peaks = [peak_flops(device.device_kind) for device in devices]
        self._peak = None if None in peaks else sum(peak or 0.0 for peak in peaks)
        self._config = model.decoder.config
        self._slots_before = self._slots = model.encoder.slots
        self._tokens = 0
        self._flops = self._computed = self._waited = 0.0
        self._start: float | None = None

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Times a wait for tokens; the first one is not counted, as nothing could run before."""
        start = time.perf_counter()
        yield
        if self._start is None:
            self._start = time.perf_counter()
        else:
            self._waited += time.perf_counter() - start

    @contextmanager
    def computing(self) -> Iterator[None]:
        """Times the model."""
        start = time.perf_counter()
        yield
        self._computed += time.perf_counter() - start

    def add(self, lengths: Int[np.ndarray, "B"], slots: int) -> str:
        """Adds rows of so many tokens; returns what a progress bar shows.

        `slots` are those that the encoder has computed in its life.
        """
        self._tokens += int(lengths.sum())
        self._slots = slots
        self._flops += sum(
            length * flops_per_token(self._config, work="forward", context=length / 2)
            for length in lengths.tolist()
        )
        speed = self.speed()
        if speed is None:
            return ""
        mfu = "" if speed.mfu is None else f", {speed.mfu:.0%} MFU"
        padding = f"{speed.padding:.0%} padding"
        return f"{speed.tokens_per_second:,.0f} tokens/s, {padding}{mfu}"

    def speed(self) -> EncodingSpeed | None:
        """What was measured so far; None before the first tokens."""
        if self._start is None or not self._tokens:
            return None
        seconds = time.perf_counter() - self._start
        slots = self._slots - self._slots_before
        return EncodingSpeed(
            seconds=seconds,
            tokens_per_second=self._tokens / seconds,
            padding=max(0.0, 1 - self._tokens / slots),
            mfu=None if self._peak is None else self._flops / seconds / self._peak,
            waited=self._waited,
            overhead=max(0.0, 1 - self._computed / seconds),
        )
