"""A run that is asked to stop learns of it, and the world is as before afterwards."""

import os
import signal
import threading

import pytest

from t1_jax.errors import ConfigError
from t1_jax.train.infra import GracefulStop


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_asks_to_stop(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with GracefulStop() as stop:
        assert not stop.requested()
        os.kill(os.getpid(), number)
        assert stop.requested()
        assert stop.reason == number.name
    assert signal.getsignal(number) is before


def test_a_second_interrupt_ends_at_once() -> None:
    with GracefulStop() as stop:
        os.kill(os.getpid(), signal.SIGINT)
        assert stop.requested()
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
        assert not stop.requested()
        now[0] = 1120.0
        assert stop.requested()
        assert stop.reason == "2 minutes are over"


def test_another_thread_watches_no_signals() -> None:
    seen: list[object] = []

    def inside() -> None:
        with GracefulStop() as stop:
            seen.append(signal.getsignal(signal.SIGTERM))
            seen.append(stop.requested())

    before = signal.getsignal(signal.SIGTERM)
    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    assert seen == [before, False]


def test_a_deadline_in_the_past_is_refused() -> None:
    with pytest.raises(ConfigError, match="max_minutes must be above 0"):
        GracefulStop(max_minutes=0)
