"""A watchdog: ends a run that no longer makes progress, and says where it is."""

import sys
import sysconfig
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import t1_jax
from t1_jax.errors import RetryableError
from t1_jax.parallel import end_process

_INSTALLED = tuple(sysconfig.get_path(name) for name in ("stdlib", "purelib", "platlib"))
_PACKAGE = str(Path(t1_jax.__file__).parent)


class Watchdog:
    """A context in which a run must make progress; otherwise its process ends with exit code 75.

    A reward that waits for a server, a collective that one process never enters and a device that
    no longer answers cannot be interrupted from Python. A supervisor can start the run again, from
    its last checkpoint, once the process is gone. The stacks of all threads are printed before.

    Time counts while the process runs: not while it is stopped by SIGSTOP or the machine sleeps.

    Args:
        progress: a number that changes with every piece of work. A thread calls it.
        minutes: without progress after which the process ends; None watches nothing.
        end: ends the process, and with it the others of its job.
    """

    def __init__(
        self,
        progress: Callable[[], int],
        minutes: float | int | None,
        *,
        end: Callable[[RetryableError], Any] = end_process,
    ) -> None:
        self._progress = progress
        self._minutes = minutes
        self._end = end
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "Watchdog":
        if self._minutes is not None:
            self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._closed.set()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        assert self._minutes is not None
        limit = 60 * self._minutes
        poll = min(limit / 10, 10.0)
        seen, idle = self._progress(), 0.0
        while not self._closed.wait(poll):
            now = self._progress()
            seen, idle = now, 0.0 if now != seen else idle + poll
            if idle >= limit:
                self._end(self._report())
                return

    def _report(self) -> RetryableError:
        """Prints the stacks of all threads, and says where the run is."""
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        frames = sys._current_frames()  # the documented way to the stacks of other threads
        for ident, frame in frames.items():
            if ident != threading.get_ident():
                print(f"thread {names.get(ident, ident)}:", file=sys.stderr)  # noqa: T201
                traceback.print_stack(frame, file=sys.stderr)
        main = threading.main_thread().ident
        rollouts = [ident for ident, name in names.items() if name.startswith("rollout")]
        # A step waits for the rollout in its thread, which is then what hangs.
        working = [frames[ident] for ident in (*rollouts, main) if ident in frames]
        return RetryableError(
            f"no step, decoded chunk or encoded batch for {self._minutes:g} minutes: the run is in "
            f"{_place(working[0])}",
            hint="the stacks above show what it waits for; the same command resumes from the last "
            "checkpoint; if the work takes that long, set watchdog_minutes=120 or null",
        )


def _place(frame: FrameType) -> str:
    """Function, file and line of the innermost call in t1_jax or in a user's code."""
    ours = frame
    for place, _ in traceback.walk_stack(frame):
        name = place.f_code.co_filename
        if name.startswith(_PACKAGE) or not name.startswith(("<", *_INSTALLED)):
            ours = place
            break
    return f"{ours.f_code.co_name} ({ours.f_code.co_filename}:{ours.f_lineno})"
