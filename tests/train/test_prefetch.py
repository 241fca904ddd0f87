"""Rollouts that are drawn one step ahead: older by one update, and the same after a stop."""

import shutil
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t1_jax.errors import DataError
from t1_jax.interrupt import Interrupt
from t1_jax.train import TrainConfig
from t1_jax.train.rollout import RolloutBatches
from t1_jax.train.stage import StepReport
from tests.train.toy_runs import S3, PowerCut, Recorder, merged, run_toy, toy_config
from tests.train.toy_stages import ToyStages

AHEAD: dict[str, Any] = merged(S3, {"rollout": {"prefetch": True}})
THOUGHTS = ("rollout/length", "reward", "reward/log_rank", "rollout/reward_std")


def thoughts_in(report: StepReport) -> dict[str, float]:
    return {name: report.metrics[name] for name in THOUGHTS}


def thoughts_of(toy: ToyStages, stage: dict[str, Any], steps: int) -> list[dict[str, float]]:
    _, metrics = toy.run(toy.stage(stage), steps)
    return [{name: each[name] for name in THOUGHTS} for each in metrics]


def test_thoughts_are_those_of_the_weights_one_update_before(toy):
    """With steps so small that one moves nothing, both ways are the same; else they part."""
    still = {"optimizer": {"learning_rate": 1e-12}}
    unmoved = thoughts_of(toy, merged(S3, still), 3)
    assert thoughts_of(toy, merged(AHEAD, still), 3) == unmoved
    ahead, beside = (thoughts_of(toy, stage, 2) for stage in (AHEAD, S3))
    assert ahead[0] == beside[0]
    # The second rollout is by the untrained weights too, as if the first step had moved nothing.
    assert ahead[1] == unmoved[1]
    assert ahead[1] != beside[1]


def test_the_last_step_draws_nothing_further(toy):
    stage = toy.stage(AHEAD)
    positions = []
    with toy.mesh_context.activate():
        state = stage.start(toy.weights())
        for number in range(stage.steps):
            state, report = stage.step(state, number)
            positions.append(stage.state_dict()["position"])
            waited = "time/wait" in report.metrics
            assert waited == (number + 1 < stage.steps)
    plain = toy.stage(S3)
    with toy.mesh_context.activate():
        state = plain.start(toy.weights())
        for number in range(plain.steps):
            state, _ = plain.step(state, number)
            assert plain.state_dict()["position"] == positions[number]


def ahead_config(root: Path) -> TrainConfig:
    return toy_config(root, {"s3": AHEAD}, checkpoints={"every_steps": 1})


@pytest.fixture(scope="module")
def straight(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> Recorder:
    """Four steps without a stop."""
    root = Path(shutil.copytree(toy_files, tmp_path_factory.mktemp("straight") / "toys"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        run_toy(ahead_config(root))
    return recorder


@pytest.mark.parametrize("how", ["stop", "power cut"])
def test_a_run_goes_on_bit_for_bit(straight, toys, monkeypatch, how):
    recorder = Recorder(monkeypatch)
    if how == "stop":
        recorder.stop_after = 2
        assert run_toy(ahead_config(toys)).steps == 2
        recorder.stop_after = None
    else:
        recorder.fail_after = 2
        with pytest.raises(PowerCut):
            run_toy(ahead_config(toys))
        recorder.fail_after = None
    recorder.states.clear()
    run_toy(ahead_config(toys))
    for step in (3, 4):
        assert recorder.metrics[step] == straight.metrics[step]
        for found, before in (
            (recorder.states[step], straight.states[step]),
            (recorder.hosts[step], straight.hosts[step]),
        ):
            assert found.keys() == before.keys()
            for name, array in before.items():
                np.testing.assert_array_equal(found[name], array, err_msg=name)


def test_a_rollout_in_advance_that_is_given_up_is_drawn_again(toy):
    """The update that it runs beside is kept, and the stream of queries stands where it stood."""

    def in_the_thread() -> bool:
        return threading.current_thread() is not threading.main_thread()

    with toy.mesh_context.activate():
        plain, other = toy.stage(AHEAD), toy.stage(AHEAD, Interrupt(in_the_thread))
        state, first = plain.step(plain.start(toy.weights()), 0)
        position = plain.state_dict()["position"]
        _, expected = plain.step(state, 1)
        state, found = other.step(other.start(toy.weights()), 0)
        assert other.state_dict()["position"] == position
        _, again = other.step(state, 1)
    assert thoughts_in(found) == thoughts_in(first)
    assert thoughts_in(again) == thoughts_in(expected)
    assert again.metrics["loss"] == expected.metrics["loss"]


def test_what_goes_wrong_in_the_thread_ends_the_step_that_needs_it(toy, monkeypatch):
    """The step beside it is complete, and can be saved."""

    def broken(*args: object) -> None:
        raise DataError("the endpoint is gone")

    stage = toy.stage(AHEAD)
    with toy.mesh_context.activate():
        state, _ = stage.step(stage.start(toy.weights()), 0)
        monkeypatch.setattr(RolloutBatches, "rollout", broken)
        state, _ = stage.step(state, 1)
        position = stage.state_dict()["position"]
        with pytest.raises(DataError, match="the endpoint is gone"):
            stage.step(state, 2)
        assert stage.state_dict()["position"] == position
