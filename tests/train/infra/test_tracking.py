"""Metrics reach the folder always, TensorBoard and W&B if asked, and a missing extra is named."""

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import pytest

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.train.infra import HealthConfig, RunFolder, Tracker, TrackingConfig


@pytest.fixture
def folder(tmp_path: Path) -> RunFolder:
    return RunFolder(tmp_path / "run", HealthConfig())


def test_metrics_reach_the_folder_at_once(folder: RunFolder) -> None:
    with Tracker(TrackingConfig(), folder) as tracker:
        tracker.log(3, {"loss": 1.5, "tokens": 7})
        (line,) = folder.metrics()
    assert (line["step"], line["loss"], line["tokens"]) == (3, 1.5, 7)


def test_tensorboard_reads_what_was_written(folder: RunFolder) -> None:
    pytest.importorskip("tensorboardX")
    with Tracker(TrackingConfig(tensorboard=True), folder, resumed_at=2) as tracker:
        tracker.log(3, {"loss": 1.5, "rollout/entropy": 0.25})
        tracker.log(4, {"loss": float("nan")})
    assert events(folder.path / "tensorboard") == {
        ("loss", 3): "1.5",
        ("rollout/entropy", 3): "0.25",
        ("loss", 4): "nan",
    }


def events(folder: Path) -> dict[tuple[str, int], str]:
    """The scalars of an event file: records of length, checksum, protocol buffer, checksum."""
    # Generated code, whose names a type checker cannot see.
    from tensorboardX.proto.event_pb2 import Event  # pyright: ignore[reportAttributeAccessIssue]

    (file,) = folder.iterdir()
    data, at, found = file.read_bytes(), 0, {}
    while at < len(data):
        size = int.from_bytes(data[at : at + 8], "little")
        event = Event.FromString(data[at + 12 : at + 12 + size])
        at += 12 + size + 4
        for value in event.summary.value:
            found[value.tag, event.step] = f"{value.simple_value:g}"
    return found


class FakeWandB:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, float]]] = []
        self.finished = 0

    def init(self, **settings: Any) -> Any:
        self.begun.append(settings)
        return SimpleNamespace(log=self._log, finish=self._finish)

    def _log(self, metrics: dict[str, float], step: int) -> None:
        self.logged.append((step, metrics))

    def _finish(self) -> None:
        self.finished += 1


def test_wandb_goes_on_with_the_same_run(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandB()
    monkeypatch.setitem(sys.modules, "wandb", fake)
    config = TrackingConfig(wandb="offline", project="p")
    for step in (1, 2):
        with Tracker(config, folder, run_config={"steps": 3}) as tracker:
            tracker.log(step, {"loss": 1.0})
    first, second = fake.begun
    assert first == second
    assert first["mode"] == "offline"
    assert (first["project"], first["name"], first["config"]) == ("p", "run", {"steps": 3})
    assert Path(first["dir"]) == folder.path
    assert fake.logged == [(1, {"loss": 1.0}), (2, {"loss": 1.0})]
    assert fake.finished == 2
    fresh = RunFolder(folder.path, HealthConfig(), overwrite=True)
    Tracker(config, fresh).close()
    assert fake.begun[2]["id"] != first["id"]


@pytest.mark.parametrize(
    ("config", "module"),
    [
        (TrackingConfig(tensorboard=True), "tensorboardX"),
        (TrackingConfig(wandb="online"), "wandb"),
    ],
)
def test_a_missing_extra_is_named(
    config: TrackingConfig, module: str, folder: RunFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedError, match=module) as caught:
        Tracker(config, folder)
    assert "t1_jax[tracking]" in (caught.value.hint or "")


def test_other_processes_log_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jax, "process_index", lambda: 1)
    folder = RunFolder(tmp_path / "run", HealthConfig())
    with Tracker(TrackingConfig(tensorboard=True, wandb="online"), folder) as tracker:
        tracker.log(1, {"loss": 1.0})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("fields", [{"every_steps": 0}, {"thoughts": -1}])
def test_senseless_settings_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        TrackingConfig(**fields)
