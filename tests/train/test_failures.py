"""What fails in the middle of a run is told, and costs no step that was complete."""

import errno
import gc
import itertools
import json
import shutil
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import RetryableError, T1Error, WeightsError
from t1_jax.train import run, saver
from t1_jax.train.infra import RunFolder, Tracker, TrainingAborted, Watchdog
from t1_jax.train.optimizer import Optimizer, TrainState
from t1_jax.train.rewards import RewardContext, register_reward
from tests.train.toy_runs import S1, S3, Recorder, merged, run_toy, toy_config

CHECKPOINTS = {"every_steps": 100}
THREE: dict[str, Any] = {"s1": merged(S1, {"steps": 3, "validate_every": 2})}
ASKS: dict[str, Any] = {
    "terms": {"asks_for_tests": 1, "format": 0, "length": 0, "log_rank": 0, "gap": 0}
}


class Endpoint:
    """A judge that a reward asks; it is gone while `calls_left` is 0."""

    calls_left = -1

    @staticmethod
    def answer() -> None:
        """Answers at once."""


@register_reward("asks_for_tests")
def asks_for_tests(context: RewardContext) -> np.ndarray:
    """As long as the thought is, from an endpoint."""
    if Endpoint.calls_left == 0:
        raise ConnectionError("the judge is gone")
    Endpoint.calls_left -= 1
    Endpoint.answer()
    lengths = [[thought.reasoning_tokens for thought in group] for group in context.thoughts]
    return np.asarray(lengths, np.float64)


def logged(toys: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (toys / "run/metrics.jsonl").read_text().splitlines()]


def checkpoints(toys: Path) -> list[str]:
    return sorted(path.name for path in (toys / "run/checkpoints").iterdir())


def assert_same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert found.keys() == expected.keys()
    for name, array in found.items():
        np.testing.assert_array_equal(array, expected[name], err_msg=name)


@pytest.mark.parametrize("prefetch", [False, True])
def test_a_reward_that_raises_is_named_and_the_run_goes_on_bitwise(
    toys, tmp_path, monkeypatch, prefetch
):
    stage = merged(S3, {"steps": 3, "reward": ASKS, "rollout": {"prefetch": prefetch}})
    other = Path(shutil.copytree(toys, tmp_path / "other"))
    with monkeypatch.context() as patch:
        expected = Recorder(patch)
        run_toy(toy_config(other, {"s3": stage}, checkpoints=CHECKPOINTS))
    recorder = Recorder(monkeypatch)
    # One call before anything is loaded, and one a step.
    monkeypatch.setattr(Endpoint, "calls_left", 3)
    with pytest.raises(RetryableError, match="the judge is gone") as caught:
        run_toy(toy_config(toys, {"s3": stage}, checkpoints=CHECKPOINTS))
    assert "the reward 'asks_for_tests' raised ConnectionError" in caught.value.message
    assert "test_failures.py:" in caught.value.message
    assert "saved at step 2" in caught.value.message
    assert checkpoints(toys) == ["2"]
    monkeypatch.setattr(Endpoint, "calls_left", -1)
    assert run_toy(toy_config(toys, {"s3": stage}, checkpoints=CHECKPOINTS)).steps == 3
    for step in (1, 2, 3):
        assert_same(recorder.states[step], expected.states[step])
        assert recorder.positions[step] == expected.positions[step]


def test_a_reward_that_hangs_is_named_and_ends_the_process(toys, monkeypatch):
    asked, answered, ended, compiling = threading.Event(), threading.Event(), [], itertools.count()

    def answer() -> None:
        if Endpoint.calls_left < -2:  # after the trial before anything is loaded
            asked.set()
            answered.wait(30)

    def end(error: RetryableError) -> None:
        ended.append(error)
        answered.set()

    def watchdog(progress: Callable[[], int], minutes: float) -> Watchdog:
        # A small limit counts from the question on: compiling may take longer.
        seen = lambda: progress() if asked.is_set() else next(compiling)  # noqa: E731
        return Watchdog(seen, minutes, end=end)

    monkeypatch.setattr(Endpoint, "answer", answer)
    monkeypatch.setattr(Endpoint, "calls_left", -1)
    monkeypatch.setattr(run, "Watchdog", watchdog)
    stage = merged(S3, {"steps": 1, "reward": ASKS})
    run_toy(toy_config(toys, {"s3": stage}, validation=None, watchdog_minutes=0.5 / 60))
    # In this test nothing ends the process, and the run goes on.
    assert "the run is in answer" in ended[0].message
    assert "test_failures.py:" in ended[0].message


def fails_once(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, error: Exception) -> None:
    """The second call raises."""
    whole, calls = getattr(owner, name), []

    def call(*args: Any, **kwargs: Any) -> Any:
        calls.append(args)
        if len(calls) == 2:
            raise error
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, call)


@pytest.mark.parametrize(
    ("owner", "name", "error"),
    [
        (RunFolder, "record", T1Error("metrics.jsonl could not be written: no space")),
        (Tracker, "log", OSError(errno.ENOSPC, "no space")),
        (RunFolder, "write_thoughts", T1Error("no space")),
        (saver, "export_weights", T1Error("the weights could not be written: no space")),
    ],
)
def test_a_full_disk_ends_the_run_after_it_was_saved(toys, monkeypatch, owner, name, error):
    fails_once(monkeypatch, owner, name, error)
    with pytest.raises(RetryableError, match=r"no space.*; the run is saved at step [23]"):
        run_toy(toy_config(toys, THREE, checkpoints=CHECKPOINTS))
    assert checkpoints(toys)[-1] in ("2", "3")
    result = run_toy(toy_config(toys, THREE, checkpoints=CHECKPOINTS))
    assert (result.steps, result.stopped) == (3, None)
    assert result.best is not None
    for folder in ("stages/s1", "best"):
        assert (toys / "run" / folder / "model.safetensors").exists()


def test_weights_that_cannot_be_exported_are_in_the_checkpoint(toys, monkeypatch):
    error = WeightsError("tensor x has values beyond the range of float16", hint="use bfloat16")
    stages = {"s1": merged(S1, {"steps": 1})}
    with monkeypatch.context() as patch:
        fails_once(patch, saver, "export_weights", error)
        with pytest.raises(WeightsError, match="stages/s1 could not be exported") as caught:
            run_toy(toy_config(toys, stages))
    assert "in the checkpoint of step 1" in caught.value.message
    assert run_toy(toy_config(toys, stages)).steps == 1
    assert (toys / "run/stages/s1/model.safetensors").exists()


@pytest.fixture
def bad_batches(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Updates, by their number, whose gradient is not finite."""
    apply, bad = Optimizer.apply, set[int]()

    def applied(self: Optimizer, state: TrainState, gradients: nnx.State) -> Any:
        if int(np.asarray(state.step)) in bad:
            gradients = jax.tree.map(lambda leaf: leaf * jnp.nan, gradients)
        return apply(self, state, gradients)

    monkeypatch.setattr(Optimizer, "apply", applied)
    return bad


def test_skipped_updates_are_told_and_resumed_across_bitwise(
    toys, tmp_path, monkeypatch, bad_batches
):
    bad_batches |= {1, 2}
    stages, told = {"s1": S1}, list[str]()
    monkeypatch.setattr("tests.train.toy_runs.SILENT", told.append)
    other = Path(shutil.copytree(toys, tmp_path / "other"))
    with monkeypatch.context() as patch:
        expected = Recorder(patch)
        run_toy(toy_config(other, stages))
    assert [text for text in told if "the update was skipped" in text] == [
        f"warning: step {step}: the gradient is not finite, so the update was skipped ({count} in "
        "a row; the run stops after 5)"
        for step, count in ((2, 1), (3, 2))
    ]
    counts = [(line["skipped_updates"], line["skipped_in_a_row"]) for line in logged(other)]
    assert counts == [(0, 0), (1, 1), (2, 2), (2, 0)]
    recorder = Recorder(monkeypatch)
    recorder.stop_after = 2
    run_toy(toy_config(toys, stages))
    recorder.stop_after = None
    assert run_toy(toy_config(toys, stages)).steps == 4
    for step in range(1, 5):
        assert_same(recorder.states[step], expected.states[step])
    for name, array in expected.states[1].items():
        if "trained" in name:
            np.testing.assert_array_equal(expected.states[3][name], array)
            assert (expected.states[4][name] != array).any()


def test_too_many_skipped_updates_end_the_run_which_then_gets_past_them(toys, bad_batches):
    bad_batches |= {1, 2}
    health = {"max_skipped_updates": 1}
    with pytest.raises(TrainingAborted, match="step 3: the gradient of 2 updates in a row"):
        run_toy(toy_config(toys, {"s1": S1}, health=health))
    assert checkpoints(toys) == ["3"]
    assert [line["step"] for line in logged(toys)] == [1, 2, 3]
    result = run_toy(toy_config(toys, {"s1": S1}, health=health))
    assert (result.steps, result.stopped) == (4, None)
    assert [line["step"] for line in logged(toys)] == [1, 2, 3, 4]


# Orbax leaves what it had begun to read when a part cannot be read.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.filterwarnings("ignore:coroutine:RuntimeWarning")
def test_a_damaged_checkpoint_is_told_and_the_one_before_it_is_used(toys, monkeypatch):
    told = list[str]()
    monkeypatch.setattr("tests.train.toy_runs.SILENT", told.append)
    checkpoints = {"every_steps": 1, "keep_last": 3}
    config = toy_config(toys, {"s1": merged(S1, {"steps": 3})}, checkpoints=checkpoints)
    run_toy(config)
    weights, folder = toys / "run/stages/s1/model.safetensors", toys / "run/checkpoints"
    expected = weights.read_bytes()
    (folder / "3/_CHECKPOINT_METADATA").write_bytes(b"nothing")
    (folder / "2/state/manifest.ocdbt").write_bytes(b"nothing")
    assert run_toy(config).steps == 3
    assert [text.partition("; ")[2] for text in told if "cannot be read" in text] == [
        "that of step 2 is used",
        "that of step 1 is used",
    ]
    assert "resumed at step 1, in stage s1" in told
    assert weights.read_bytes() == expected
    assert len(list(folder.glob("*.damaged-*"))) == 2
    # Without one before it, the next session loads the weights to start from.
    for step in (1, 2):
        shutil.rmtree(folder / str(step))
    (folder / "3/state/manifest.ocdbt").write_bytes(b"nothing")
    with pytest.raises(RetryableError, match="3 cannot be read: .*; it was set aside"):
        run_toy(config)
    assert run_toy(config).steps == 3
    assert weights.read_bytes() == expected
    gc.collect()
