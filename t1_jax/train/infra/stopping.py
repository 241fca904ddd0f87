"""Early stops: signals and a deadline, and what several processes must decide alike."""

import itertools
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from t1_jax.errors import ConfigError
from t1_jax.interrupt import Interrupt, Interrupted
from t1_jax.parallel import process_store


def any_process(flag: bool) -> bool:
    """Whether the flag is set on at least one process; all processes call it together."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))


_sessions = itertools.count()


class SharedStop:
    """Lets all processes of a job stop at the same point of their work, without a collective.

    All processes pass the same points in the same order, at their own pace. Once one of them asks,
    each publishes how many points it has passed, and waits at the next one until all have. They
    stop at the first point that none of them has passed. JAX has the same for SIGTERM alone
    (`reached_preemption_sync_point`), in a counter that Orbax sets to the step of each checkpoint.

    All processes create it together; a thread asks the key-value store of the job every second.

    Args:
        asks: whether this process asks to stop.
    """

    POLL_SECONDS = 1.0
    TIMEOUT_SECONDS = 60

    def __init__(self, asks: Callable[[], bool]) -> None:
        self._asks = asks
        self._store = process_store()
        self._process, self._count = jax.process_index(), jax.process_count()
        self._prefix = f"t1_jax/stop/{next(_sessions)}"
        self._lock = threading.Lock()
        self._points = 0
        self._stop_at: int | None = None
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="shared stop", daemon=True)
        self._thread.start()

    def passed(self) -> bool:
        """Passes a point; whether all processes stop here, or stopped at an earlier one."""
        with self._lock:
            self._points += 1
            return self._stop_at is not None and self._points >= self._stop_at

    def close(self) -> None:
        """Ends the thread; all processes call it together."""
        self._closed.set()
        with suppress(RuntimeError):  # it has published already
            self._publish()
        self._thread.join()

    def _publish(self) -> None:
        self._store.key_value_set(f"{self._prefix}/{self._process}", str(self._points))

    def _watch(self) -> None:
        while not self._closed.wait(self.POLL_SECONDS):
            with suppress(RuntimeError):  # another process asked first
                if self._asks():
                    self._store.key_value_set(f"{self._prefix}/asked", "")
            try:
                self._store.key_value_try_get(f"{self._prefix}/asked")
            except RuntimeError:  # no process has asked so far
                continue
            with self._lock, suppress(RuntimeError):  # a process is gone, or the stage is over
                self._publish()
                self._stop_at = 1 + max(
                    int(
                        self._store.blocking_key_value_get(
                            f"{self._prefix}/{number}", 1000 * self.TIMEOUT_SECONDS
                        )
                    )
                    for number in range(self._count)
                )
            return


class GracefulStop(Interrupt):
    """A context in which SIGTERM, SIGINT and a deadline ask the run to save and end.

    The run asks at three places: after every step (`requested_anywhere`), between the chunks of a
    validation (`check_together`), and, as an `Interrupt`, between the decoding blocks and encoding
    batches of a rollout or validation (`check`). The last is too frequent for a collective; several
    processes agree on one of these points by a `SharedStop`.

    The first Ctrl-C asks; the second raises `KeyboardInterrupt` at once. The previous handlers
    return when the context ends. Python delivers signals to the main thread, so in any other
    thread only the deadline works.

    Args:
        max_minutes: time from entering the context to the deadline; None for no deadline.

    Attributes:
        progress: how often the run has asked whether to stop, which it does after every piece of
            work; see `Watchdog`.
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
        self.progress = 0
        self.has_progress = False
        self._signal: str | None = None
        self._shared: SharedStop | None = None
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
        self.progress += 1
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
        self.progress += 1
        if jax.process_count() == 1:
            return self._is_due()
        return self._shared is not None and self._shared.passed()

    def _is_due(self) -> bool:
        return self._signal is not None or (self.has_progress and self.reason is not None)

    def __enter__(self) -> "GracefulStop":
        self._entered_at = time.monotonic()
        if jax.process_count() > 1:
            self._shared = SharedStop(self._is_due)
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._previous_handlers[number] = signal.signal(number, self._on_signal)
        return self

    def __exit__(self, *exc: object) -> None:
        for number, handler in self._previous_handlers.items():
            # A handler that was not set from Python cannot be restored; the default can.
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._previous_handlers.clear()
        if self._shared is not None:
            self._shared.close()
            self._shared = None

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and self._signal is not None:
            raise KeyboardInterrupt
        self._signal = signal.Signals(number).name
