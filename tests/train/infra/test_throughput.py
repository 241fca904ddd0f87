"""Speeds against a clock that we wind."""

import pytest

from t1_jax.train.infra import Clock, Meter


def test_a_meter_reads_since_the_last_reading() -> None:
    now = [0.0]
    meter = Meter(1e12, tokens=1000, clock=lambda: now[0])
    meter.add(50, 1e12)
    meter.add(50, 1e12)
    now[0] = 4.0
    assert meter.read() == {"tokens": 1100.0, "tokens_per_second": 25.0, "mfu": 0.5}
    meter.add(10, 1e11)
    now[0] = 5.0
    assert meter.read() == {"tokens": 1110.0, "tokens_per_second": 10.0, "mfu": 0.1}
    assert meter.tokens == 1110


def test_without_a_peak_or_work_there_is_no_mfu() -> None:
    unknown, idle = Meter(None), Meter(1e12)
    unknown.add(5, 1e9)
    idle.add(5)
    assert "mfu" not in unknown.read()
    assert "mfu" not in idle.read()


def test_times_add_up(monkeypatch):
    now = iter([0.0, 1.0, 5.0, 7.0, 10.0, 10.5])
    monkeypatch.setattr("t1_jax.train.infra.throughput.time.perf_counter", lambda: next(now))
    clock = Clock()
    with clock.of("reward"):
        pass
    with clock.of("update"):
        pass
    with pytest.raises(RuntimeError), clock.of("reward"):
        raise RuntimeError
    assert clock.seconds == {"time/reward": 1.5, "time/update": 2.0}
