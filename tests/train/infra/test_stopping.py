"""Signals and deadlines stop a run on all processes, and handlers are restored."""

import itertools
import os
import signal
import threading
import time

import jax
import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.interrupt import Interrupted
from t1_jax.train.infra import GracefulStop, any_process
from t1_jax.train.infra.stopping import SharedStop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with GracefulStop() as stop:
        assert not stop.requested_anywhere()
        os.kill(os.getpid(), number)
        assert stop.requested_anywhere()
        assert stop.reason == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once() -> None:
    with GracefulStop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested_anywhere()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)


def test_a_second_sigterm_is_patient() -> None:
    with GracefulStop() as stop:
        for _ in range(3):
            os.kill(os.getpid(), signal.SIGTERM)
        assert stop.reason == "SIGTERM"


def test_handlers_come_back_after_an_error() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(RuntimeError), GracefulStop():
        raise RuntimeError
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_deadline_asks_to_stop(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("t1_jax.train.infra.stopping.time.monotonic", lambda: now[0])
    stop = GracefulStop(max_minutes=2)
    now[0] = 1000.0
    with stop:
        now[0] = 1119.0
        assert not stop.requested_anywhere()
        now[0] = 1120.0
        assert not stop.requested_anywhere()  # the session has nothing to save yet
        stop.has_progress = True
        assert stop.requested_anywhere()
        assert stop.reason == "2 minutes are over"


def test_another_thread_watches_no_signals() -> None:
    seen: list[object] = []

    def inside() -> None:
        with GracefulStop() as stop:
            seen.append(signal.getsignal(signal.SIGTERM))
            seen.append(stop.requested_anywhere())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before, False]


def test_a_deadline_in_the_past_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_minutes must be above 0"):
        GracefulStop(max_minutes=0)


@pytest.mark.parametrize("flag", [True, False])
def test_one_process_decides_alone(flag: bool) -> None:
    assert any_process(flag) is flag


@pytest.mark.parametrize(
    ("others", "answer"), [([False, False], False), ([False, True], True), ([True, True], True)]
)
def test_many_processes_decide_together(
    others: list[bool], answer: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(
        "t1_jax.train.infra.stopping.multihost_utils.process_allgather",
        lambda flag: np.stack([flag, *map(np.asarray, others)]),
    )
    assert any_process(False) is answer
    assert any_process(True) is True


def test_work_under_way_is_interrupted_by_signals_at_once_and_by_deadlines_after_progress():
    with GracefulStop(max_minutes=1e-9) as stop:
        stop.check()
        stop.check_together()
        stop.has_progress = True
        for check in (stop.check, stop.check_together):
            with pytest.raises(Interrupted):
                check()
    with GracefulStop() as stop:
        stop.check()
        os.kill(os.getpid(), signal.SIGTERM)
        for check in (stop.check, stop.check_together):
            with pytest.raises(Interrupted):
                check()


def test_several_processes_agree_before_they_interrupt(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(jax, "process_count", lambda: 2)
    monkeypatch.setattr(
        "t1_jax.train.infra.stopping.multihost_utils.process_allgather",
        lambda flag: np.stack([flag, np.asarray(True)]),
    )
    stop = GracefulStop()
    stop.check()  # before it is entered; see `SharedStop` for the points within a rollout
    with pytest.raises(Interrupted):
        stop.check_together()


class Store:
    """The key-value store of a job, for threads in place of processes."""

    def __init__(self) -> None:
        self._values: dict[str, str] = {}
        self._changed = threading.Condition()

    def key_value_set(self, key: str, value: str) -> None:
        with self._changed:
            if key in self._values:
                raise RuntimeError("ALREADY_EXISTS")
            self._values[key] = value
            self._changed.notify_all()

    def key_value_try_get(self, key: str) -> str:
        with self._changed:
            if key not in self._values:
                raise RuntimeError("NOT_FOUND")
            return self._values[key]

    def blocking_key_value_get(self, key: str, timeout_ms: int) -> str:
        with self._changed:
            if not self._changed.wait_for(lambda: key in self._values, timeout_ms / 1000):
                raise RuntimeError("DEADLINE_EXCEEDED")
            return self._values[key]


@pytest.mark.parametrize("asking", [(0,), (2,), (0, 1, 2), ()])
def test_processes_at_different_paces_stop_at_one_point(asking, monkeypatch: pytest.MonkeyPatch):
    store, current = Store(), threading.local()
    module = "t1_jax.train.infra.stopping"
    monkeypatch.setattr(f"{module}.process_store", lambda: store)
    monkeypatch.setattr(f"{module}._sessions", itertools.repeat(0))
    monkeypatch.setattr(jax, "process_count", lambda: 3)
    monkeypatch.setattr(jax, "process_index", lambda: current.process)
    monkeypatch.setattr(SharedStop, "POLL_SECONDS", 0.01)
    passed, stopped = [0, 0, 0], [False] * 3

    def work(process: int) -> None:
        current.process = process
        shared = SharedStop(lambda: process in asking and passed[process] > 20)
        while passed[process] < 200 and not stopped[process]:
            time.sleep(0.001 * (process + 1))
            passed[process] += 1
            stopped[process] = shared.passed()
        shared.close()

    threads = [threading.Thread(target=work, args=(process,)) for process in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(passed)) == 1
    assert stopped == [bool(asking)] * 3
    assert (20 < passed[0] < 200) is bool(asking)
