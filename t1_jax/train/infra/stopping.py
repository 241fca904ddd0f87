"""Early stops: signals and a deadline, and what several processes must decide alike."""

import signal
import threading
import time
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from t1_jax.errors import ConfigError
from t1_jax.interrupt import Interrupt, Interrupted


def any_process(flag: bool) -> bool:
    """Whether the flag is set on at least one process; all processes call it together."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


class GracefulStop(Interrupt):
    """A context in which SIGTERM, SIGINT and a deadline ask the run to save and end.

    The run asks at three places: after every step (`requested_anywhere`), between the chunks of a
    validation (`check_together`), and, as an `Interrupt`, between the decoding blocks and encoding
    batches of a rollout or validation (`check`). The last is too frequent for a collective, so
    with several processes it never raises.

    The first Ctrl-C asks; the second raises `KeyboardInterrupt` at once. The previous handlers
    return when the context ends. Python delivers signals to the main thread, so in any other
    thread only the deadline works.

    Args:
        max_minutes: time from entering the context to the deadline; None for no deadline.

    Attributes:
        has_progress: whether this session has completed a step or a validation. Until then a
            deadline does not interrupt work: the next session would get no further either.

    Raises:
        ConfigError: `max_minutes` is not above 0.
    """

    def __init__(self, max_minutes: float | int | None = None) -> None:
        if max_minutes is not None and max_minutes <= 0:
            raise ConfigError(f"max_minutes must be above 0, got {max_minutes}")
        super().__init__(self._requested_here)
        self.max_minutes = max_minutes
        self.has_progress = False
        self._signal: str | None = None
        self._entered_at = time.monotonic()
        self._previous_handlers: dict[int, Any] = {}

    @property
    def reason(self) -> str | None:
        """Why this process was asked to stop; None if it was not, or if another one was."""
        if self._signal is not None or self.max_minutes is None:
            return self._signal
        is_over = time.monotonic() - self._entered_at >= 60 * self.max_minutes
        return f"{self.max_minutes:g} minutes are over" if is_over else None

    def requested_anywhere(self) -> bool:
        """Whether the run must stop; all processes call it together and agree."""
        return any_process(self._is_due())

    def check_together(self) -> None:
        """Ends unfinished work on all processes, which call it together.

        Raises:
            Interrupted: a signal arrived, or the deadline passed and the session has progress.
        """
        if self.requested_anywhere():
            raise Interrupted

    def _requested_here(self) -> bool:
        """The same decision without a collective."""
        return jax.process_count() == 1 and self._is_due()

    def _is_due(self) -> bool:
        return self._signal is not None or (self.has_progress and self.reason is not None)

    def __enter__(self) -> "GracefulStop":
        self._entered_at = time.monotonic()
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous_handlers.items():
            # A handler that was not set from Python cannot be restored; the default can.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous_handlers.clear()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number).name
