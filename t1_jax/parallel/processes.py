"""The processes of a job: how they find each other, and how the failure of one ends all."""

import atexit
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

import jax
from jax._src import distributed  # JAX does not export the key-value store of its processes

from t1_jax.errors import ConfigError, RetryableError, T1Error

_FAILURE = "t1_jax/failure"
_POLL_SECONDS = 1.0


def start_multi_host() -> None:
    """Connects to the other processes of a job; call it before any other use of JAX.

    Does nothing for a single process. There are several if the launcher set one of

    - `JAX_COORDINATOR_ADDRESS`, with `JAX_NUM_PROCESSES` and `JAX_PROCESS_ID`: plain hosts;
    - `SLURM_STEP_NUM_TASKS` above 1: `srun`;
    - `TPU_WORKER_HOSTNAMES` with several names: TPU slices of GKE;
    - `T1_MULTI_HOST=1`: Cloud TPU machines, which ask their metadata, and whatever else JAX
      detects. `T1_MULTI_HOST=0` turns the others off.

    Raises:
        ConfigError: the environment does not say how many processes there are, or which this is.
        T1Error: the processes could not connect.
    """
    if not _is_wanted() or jax.distributed.is_initialized():
        return
    try:
        jax.distributed.initialize(
            num_processes=_number("JAX_NUM_PROCESSES"), process_id=_number("JAX_PROCESS_ID")
        )
    except (ValueError, TypeError) as error:
        raise ConfigError(
            f"the processes of the job cannot find each other: {error}",
            hint="set JAX_COORDINATOR_ADDRESS=HOST:PORT, JAX_NUM_PROCESSES and JAX_PROCESS_ID (0, "
            "1, ...) for each process, or T1_MULTI_HOST=0 to run alone; see docs/clusters.md",
        ) from error
    except RuntimeError as error:
        raise T1Error(
            f"the processes of the job could not connect: {str(error).partition(chr(10))[0]}",
            hint="start all of them within five minutes, and let them reach the address of process "
            "0; see docs/clusters.md",
        ) from error


def process_store() -> Any:
    """The key-value store of a job of several processes: jaxlib's `DistributedRuntimeClient`."""
    return distributed.global_state.client


def _is_wanted() -> bool:
    wanted = os.environ.get("T1_MULTI_HOST")
    if wanted in ("0", "1"):
        return wanted == "1"
    return (
        "JAX_COORDINATOR_ADDRESS" in os.environ
        or (_number("SLURM_STEP_NUM_TASKS") or 1) > 1
        or "," in os.environ.get("TPU_WORKER_HOSTNAMES", "")
    )


def _number(name: str) -> int | None:
    """The variable as a number; None without it."""
    text = os.environ.get(name)
    if text is None:
        return None
    if not text.isdigit():
        raise ConfigError(f"{name} must be a number, got {text!r}", hint=f"set {name}=0, 1, 2, ...")
    return int(text)


@contextmanager
def multi_host_job() -> Iterator[None]:
    """Work that all processes of a job do together: an error in one of them ends all at once.

    Connects as `start_multi_host` does. Without this, the other processes would wait for the failed
    one in a collective, and it for them at its exit. The process that failed raises its error as
    usual and exits; the others print that error and exit with the same code. A process that is
    killed cannot say so: the next collective fails on a CPU, and JAX ends the others after 100 s
    without a heartbeat.
    """
    start_multi_host()
    if not jax.distributed.is_initialized():
        yield
        return
    watch = _FailureWatch()
    try:
        yield
    except BaseException as error:
        watch.announce(error)
        raise
    finally:
        watch.stop()


def end_process(error: T1Error) -> NoReturn:
    """Prints an error and ends this process, whatever its other threads do, and with it its job.

    For a thread that finds that the main thread hangs. The exit code is that of the error.
    """
    _print_error(error.message, error.hint)
    in_job = jax.distributed.is_initialized()
    if in_job:
        _announce(error)
    _exit_now(_exit_code(error), wait=in_job)


class _FailureWatch:
    """Ends this process when another one has announced a failure."""

    def __init__(self) -> None:
        self._job: Any = distributed.global_state
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="failure watch", daemon=True)
        self._thread.start()

    def announce(self, error: BaseException) -> None:
        """Tells the other processes why this one ends; it exits without waiting for them."""
        _announce(error)
        # JAX would wait at exit for all processes, which are in a collective. The handler that is
        # registered last runs first.
        atexit.register(_exit_now, _exit_code(error), wait=True)

    def stop(self) -> None:
        """Ends the watch, which must not outlive the connection."""
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            try:
                failure = json.loads(self._job.client.key_value_try_get(_FAILURE))
            except RuntimeError:  # no such key: no failure so far
                continue
            if not self._ended.is_set():
                _print_error(failure["message"], "this process ends with it")
                # The others read the failure from the service in process 0.
                _exit_now(failure["code"], wait=self._job.service is not None)


def _announce(error: BaseException) -> None:
    """Tells the other processes of the job that this one fails, unless one of them was first."""
    job: Any = distributed.global_state
    message = f"process {job.process_id} of {job.num_processes} failed: {_reason(error)}"
    failure = json.dumps({"code": _exit_code(error), "message": message})
    with suppress(RuntimeError):  # another process was first
        job.client.key_value_set(_FAILURE, failure)


def _print_error(message: str, hint: str | None) -> None:
    """As the command line prints an error."""
    print(f"error: {message}", file=sys.stderr)  # noqa: T201
    if hint:
        print(f"  hint: {hint}", file=sys.stderr)  # noqa: T201


def _exit_now(code: int, *, wait: bool) -> NoReturn:
    """Ends this process, at once or after all others have had the time to read a failure."""
    if wait:
        time.sleep(2 * _POLL_SECONDS)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _reason(error: BaseException) -> str:
    if isinstance(error, T1Error):
        return error.message
    return f"{type(error).__name__}: {(str(error).strip().splitlines() or [''])[0]}"


def _exit_code(error: BaseException) -> int:
    """As the command line exits after this error."""
    if isinstance(error, RetryableError):
        return 75
    if isinstance(error, KeyboardInterrupt):
        return 130
    return 2 if isinstance(error, T1Error) else 1
