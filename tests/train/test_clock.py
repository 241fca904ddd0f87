"""Times of a step add up by name, also where something fails."""

import pytest

from t1_jax.train.infra.throughput import Clock


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
