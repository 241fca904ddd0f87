"""A machine that tests know: one device, and a speed that does not depend on what else runs."""

import pytest

from t1_jax.parallel import single_device_mesh_context
from t1_jax.train import Speed


def use_known_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trains on one device, and plans as if it were of a fixed speed."""
    one_device = single_device_mesh_context()
    monkeypatch.setattr("t1_jax.train.run.make_mesh_context", lambda mesh: one_device)
    speed = Speed(train=1e11, decode=1e10, compile_seconds=10.0)
    monkeypatch.setattr("t1_jax.train.measure_speed", lambda: speed)
