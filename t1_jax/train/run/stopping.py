"""Stopping a run in time: signals and a deadline set a flag, and the loop asks for it."""

import signal
import threading
import time
from types import FrameType, TracebackType
from typing import Any

from t1_jax.errors import ConfigError
from t1_jax.train.run.multihost import any_process


class GracefulStop:
    """A context in which SIGTERM, SIGINT and a deadline ask the loop to save and end.

    The first Ctrl-C asks; the second raises `KeyboardInterrupt` at once. Leaving the context puts
    the former handlers back. In a thread other than the main one signals are not watched, since
    Python delivers them to the main thread alone.

    Args:
        max_minutes: time from entering until the run is asked to end; None for no limit.

    Raises:
        ConfigError: `max_minutes` is not above 0.
    """

    def __init__(self, max_minutes: float | int | None = None) -> None:
        if max_minutes is not None and max_minutes <= 0:
            raise ConfigError(f"max_minutes must be above 0, got {max_minutes}")
        self.max_minutes = max_minutes
        self._reason: str | None = None
        self._entered_at = time.monotonic()
        self._former: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """Why this process was asked to stop; None while it was not, or if another one was."""
        if self._reason is not None or self.max_minutes is None:
            return self._reason
        late = time.monotonic() - self._entered_at >= 60 * self.max_minutes
        return f"{self.max_minutes:g} minutes are over" if late else None

    def by_signal(self) -> bool:
        """Whether a signal asked some process; all processes call it together and agree."""
        return any_process(self._reason is not None)

    def requested(self) -> bool:
        """Whether any process was asked to stop; all processes call it together and agree."""
        return any_process(self.reason is not None)

    def __enter__(self) -> "GracefulStop":
        self._entered_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._former[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._former.items():
            # A handler that was not set from Python cannot be put back; the default can.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._former.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._reason is not None:
            raise KeyboardInterrupt
        self._reason = signal.Signals(number).name
