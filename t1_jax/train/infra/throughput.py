"""Speed of a run: tokens per second, model FLOPs utilization (MFU), and the time of a step."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


class Meter:
    """Counts tokens and FLOPs, and measures the speed between two readings.

    Args:
        peak: FLOP/s of all devices; None if unknown, which leaves out MFU.
        tokens: tokens of earlier sessions.
        clock: returns seconds.
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
        """Adds tokens and their FLOPs, over all devices."""
        self.tokens += tokens
        self._flops += flops

    def read(self) -> dict[str, float]:
        """Total `tokens`, and `tokens_per_second` and `mfu` (0 to 1) since the last reading.

        `mfu` is left out if the peak is unknown or no FLOPs were added.
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
    """Times the parts of a training step.

    Attributes:
        seconds: `time/<name>` -> seconds.
    """

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Adds the duration of the context to `time/<name>`."""
        start = time.perf_counter()
        try:
            yield
        finally:
            key = f"time/{name}"
            self.seconds[key] = self.seconds.get(key, 0.0) + time.perf_counter() - start
