"""A run that stops, however it stops, resumes bit for bit."""

import json
import os
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from t1_jax.errors import ConfigError, T1Error, WeightsError
from t1_jax.hub import read_adapter
from t1_jax.parallel import MeshConfig, make_mesh_context
from t1_jax.retriever import T1
from t1_jax.train import TrainConfig, trainer
from t1_jax.train.infra import CheckpointConfig, Checkpoints, TrainingAborted
from tests.train.toy_runs import (
    FLAT_REWARD,
    S1,
    S2,
    S3,
    Recorder,
    merged,
    run_toy,
    toy_config,
    write_model,
)

# Everything that a checkpoint must hold is in use: an average of the weights, a reference model,
# several updates of a rollout, document vectors that are refreshed after a stop.
STAGES: dict[str, dict[str, Any]] = {
    "s1": merged(S1, {"pack": True}),
    "s2": merged(S2, {"optimizer": {"ema": 0.9}}),
    "s3": merged(S3, {"policy": {"loss": "grpo", "beta": 0.1}, "rollout": {"num_iterations": 2}}),
}
CHECKPOINTS = {"every_steps": 2, "keep_last": 20}


def whole(root: Path, **fields: Any) -> TrainConfig:
    return toy_config(root, STAGES, checkpoints=CHECKPOINTS, **fields)


@pytest.fixture(scope="module")
def straight(toy_files: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Recorder]:
    """Twelve steps of three stages without a stop, and what they did."""
    root = Path(shutil.copytree(toy_files, tmp_path_factory.mktemp("straight") / "toys"))
    with pytest.MonkeyPatch.context() as monkeypatch:
        recorder = Recorder(monkeypatch)
        result = run_toy(whole(root))
    assert (result.steps, result.stopped) == (12, None)
    return root, recorder


def lines_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "run/metrics.jsonl").read_text().splitlines()]


def logged(root: Path) -> dict[int, dict[str, Any]]:
    """Metrics by step, without clocks; a step with two lines has both."""
    clocks = ("time", "tokens_per_second", "mfu")
    found: dict[int, dict[str, Any]] = {}
    for line in lines_of(root):
        values = {key: value for key, value in line.items() if not key.startswith(clocks)}
        found.setdefault(line["step"], {}).update(values)
    return found


def assert_same(left: Recorder, right: Recorder, steps: range) -> None:
    """Bit for bit, after each of these steps."""
    for step in steps:
        assert left.positions[step] == right.positions[step]
        assert left.metrics[step] == right.metrics[step]
        for ours, theirs in (
            (left.states[step], right.states[step]),
            (left.hosts[step], right.hosts[step]),
        ):
            assert ours.keys() == theirs.keys()
            for name, array in ours.items():
                np.testing.assert_array_equal(array, theirs[name], err_msg=f"step {step}: {name}")


def test_stops_in_every_stage_and_between_them_change_nothing(straight, toys, monkeypatch):
    root, expected = straight
    recorder = Recorder(monkeypatch)
    # In s1; at its end, before its validation; in s2; in s3, where the store is one step old.
    for stop in (2, 4, 5, 10):
        recorder.stop_after = stop
        result = run_toy(whole(toys))
        assert (result.steps, result.stopped) == (stop, "SIGTERM")
    recorder.stop_after = None
    result = run_toy(whole(toys))
    assert (result.steps, result.stopped) == (12, None)
    assert_same(recorder, expected, range(1, 13))
    assert logged(toys) == logged(root)
    again = run_toy(whole(toys))  # nothing is left to do, and nothing is lost
    assert (again.steps, again.best) == (12, result.best)
    assert again.validations == result.validations
    assert set(again.validations) == {"s1", "s2", "s3"}
    for name in ("stages/s1", "stages/s3", "best"):
        weights = [each / "run" / name / "model.safetensors" for each in (root, toys)]
        assert weights[0].read_bytes() == weights[1].read_bytes()


def test_a_stop_within_a_rollout_does_not_wait_for_it(straight, toys, monkeypatch):
    root, expected = straight
    recorder = Recorder(monkeypatch)
    # In the first step of s3, and in one of its others, of which there is no checkpoint yet.
    for stop in (8, 11):
        recorder.stop_within = stop
        result = run_toy(whole(toys))
        assert (result.steps, result.stopped) == (stop, "SIGTERM")
        assert stop + 1 not in recorder.states
    recorder.stop_within = None
    assert run_toy(whole(toys)).steps == 12
    assert_same(recorder, expected, range(1, 13))
    assert logged(toys) == logged(root)


def test_a_stop_within_a_validation_does_not_wait_for_it(straight, toys, monkeypatch):
    root, expected = straight
    recorder = Recorder(monkeypatch)
    whole_validation = trainer.validate

    def stopped(model: T1, *args: Any, **kwargs: Any) -> Any:
        """SIGTERM comes after it has begun."""
        begin = model.encode_query

        def encode_query(*args: Any, **kwargs: Any) -> Any:
            os.kill(os.getpid(), signal.SIGTERM)
            return begin(*args, **kwargs)

        monkeypatch.setattr(model, "encode_query", encode_query)
        whole_validation(model, *args, **kwargs)
        raise AssertionError("it went on to its end")

    monkeypatch.setattr(trainer, "validate", stopped)
    assert run_toy(whole(toys)).steps == 4
    assert "validation/ndcg@10" not in logged(toys)[4]
    # Asked again before it has done anything, it still does not wait.
    assert run_toy(whole(toys)).steps == 4
    monkeypatch.setattr(trainer, "validate", whole_validation)
    assert run_toy(whole(toys)).steps == 12
    assert_same(recorder, expected, range(1, 13))
    assert logged(toys) == logged(root)
    # The checkpoint of step 4 has the score too, although it is older than the validation.
    found = []
    for folder in (root, toys):
        config = CheckpointConfig(keep_last=20)
        with Checkpoints(folder / "run/checkpoints", config, writable=False) as checkpoints:
            metas = [checkpoints.meta(step) for step in (4, 12)]
            told = [(meta["best"], meta["validations"], meta["validation_owed"]) for meta in metas]
            found.append((checkpoints.values(), told))
    assert found[0] == found[1]
    assert set(found[0][0]) == {4, 8, 12}


def test_a_checkpoint_tells_its_config(straight):
    root, _ = straight
    with Checkpoints(root / "run/checkpoints", CheckpointConfig(), writable=False) as checkpoints:
        told = checkpoints.meta(12)["config"]
    assert told == (root / "run/config.yaml").read_text()


def test_a_deadline_leaves_time_for_one_thing(toys):
    """However short it is, the run comes to an end: each session does a step or a validation."""
    stages = {"s1": merged(S1, {"steps": 1}), "s3": merged(S3, {"steps": 1})}
    config = toy_config(toys, stages, max_minutes=1e-6)
    results = []
    while not results or results[-1].stopped:
        results.append(run_toy(config))
        assert len(results) < 6
    assert [result.steps for result in results] == [1, 1, 2, 2]
    assert set(results[-1].validations) == {"s1", "s3"}


@pytest.mark.timeout(600)  # two more processes
def test_a_killed_process_goes_on_from_its_last_checkpoint(
    straight, toys, monkeypatch, compile_cache
):
    """Killed in a supervised stage, and once more with rewards, just after a checkpoint."""
    root, expected = straight
    whole(toys)  # writes toy.yaml
    for steps in (3, 11):
        with compile_cache.lent(kept=False) as environment:
            killed = subprocess.run(
                [sys.executable, "-m", "tests.train.killed", toys / "toy.yaml", str(steps)],
                env=environment,
                capture_output=True,
                text=True,
                timeout=300,
            )
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        assert max(logged(toys)) in (steps - 1, steps)
    recorder = Recorder(monkeypatch)
    run_toy(whole(toys))
    first = min(recorder.states)
    assert first in (9, 11)  # the checkpoint of the step before is still being written
    assert_same(recorder, expected, range(first, 13))
    assert logged(toys) == logged(root)


def test_adapters_that_think_for_themselves_resume_bitwise(toys, monkeypatch):
    """As the experiment trains: adapters in bfloat16, vectors after own and given thoughts; and
    stage 3 against a reference, of which adapters alone are kept.
    """
    joint = merged(
        S2,
        {
            "losses": {"triplet": 0},
            "sample_thoughts": True,
            "contrast_reference_thoughts": True,
            "rollout": S3["rollout"],
            "micro_batch": {"keep_residuals": True},
        },
    )
    rewarded = merged(
        S3, {"policy": {"loss": "grpo", "beta": 0.1}, "micro_batch": {"keep_residuals": True}}
    )
    stages = {"s2": joint, "s3": rewarded}
    model = {
        "lora": {"rank": 2, "alpha": 4.0},
        "emb_token_init": "end",
        "dtype": "bfloat16",
        "remat": "projections",
    }
    other = Path(shutil.copytree(toys, toys.parent / "other"))
    with monkeypatch.context() as patch:
        expected = Recorder(patch)
        run_toy(toy_config(other, stages, model=model))
    recorder = Recorder(monkeypatch)
    for stop in (2, 6):  # in s2, and in s3
        recorder.stop_after = stop
        run_toy(toy_config(toys, stages, model=model))
    recorder.stop_after = None
    changed = toy_config(toys, stages, model=merged(model, {"lora": {"alpha": 8.0}}))
    with pytest.raises(WeightsError, match="lora"):
        run_toy(replace(changed, resume=True))
    run_toy(toy_config(toys, stages, model=model))
    assert_same(recorder, expected, range(1, 9))


def test_another_mesh_sees_the_same_data_and_nearly_the_same_losses(straight, toys, monkeypatch):
    _, expected = straight
    recorder = Recorder(monkeypatch)
    recorder.stop_after = 6
    run_toy(whole(toys))
    recorder.stop_after = 7
    mesh = make_mesh_context(MeshConfig(data=2, fsdp=4))
    run_toy(whole(toys), mesh)
    assert recorder.positions[7] == expected.positions[7]
    assert recorder.metrics[7]["loss"] == pytest.approx(expected.metrics[7]["loss"], rel=1e-4)
    # Adam's first steps are all signs, so that weights differ by little where losses do.
    for name, array in recorder.states[7].items():
        np.testing.assert_allclose(array, expected.states[7][name], rtol=1e-2, atol=1e-3)


def test_a_finished_stage_hands_its_weights_to_the_next(straight, toys, monkeypatch):
    """Also where the next had no checkpoint yet, and where only the next one is asked for."""
    _, expected = straight
    recorder = Recorder(monkeypatch)
    result = run_toy(whole(toys, run=["s1"]))
    assert result.steps == 4
    recorder.stop_after = 5
    run_toy(whole(toys, run=["s2"]))
    assert_same(recorder, expected, range(1, 6))
    with pytest.raises(ConfigError, match="is in stage s2, after 1 of its 4 steps"):
        run_toy(whole(toys, run=["s3"]))


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"optimizer": {"ema": 0.9}}, "holds another state"),
        ({"data": {"batch_size": 3}}, "data config have changed"),
    ],
)
def test_a_resume_that_is_refused_leaves_the_run_as_it_was(toys, change, fault):
    stages = {"s1": merged(S1, {"steps": 3})}
    run_toy(toy_config(toys, stages))
    files = [toys / "run" / name for name in ("config.yaml", "versions.json", "metrics.jsonl")]
    before = [file.read_bytes() for file in files]
    longer = merged(stages["s1"], {"steps": 4, **change})
    with pytest.raises(T1Error, match=fault):
        run_toy(toy_config(toys, {"s1": longer}, resume=True))
    assert [file.read_bytes() for file in files] == before
    assert not list((toys / "run").glob("*.before-*"))
    assert run_toy(toy_config(toys, stages)).steps == 3


def test_a_stage_that_was_passed_over_is_not_passed_over_in_silence(toys):
    stages = {"s1": merged(S1, {"steps": 1}), "s2": S2, "s3": merged(S2, {"steps": 1})}
    assert run_toy(toy_config(toys, stages, run=["s1", "s3"])).steps == 2
    with pytest.raises(ConfigError, match="in stage s3; the earlier stage s2 was never run"):
        run_toy(toy_config(toys, stages, run=["s2"]))
    assert run_toy(toy_config(toys, stages, run=["s1", "s3"])).steps == 2


def test_a_deadline_stops_and_another_model_is_refused(toys, tiny_tokenizer):
    stages = {"s1": merged(S1, {"steps": 500})}
    result = run_toy(toy_config(toys, stages, max_minutes=1e-4))
    assert result.stopped == "0.0001 minutes are over"
    assert 0 < result.steps < 500
    shutil.rmtree(toys / "model")
    write_model(toys / "model", tiny_tokenizer, seed=1)
    with pytest.raises(WeightsError, match="model"):
        run_toy(toy_config(toys, stages))


def test_a_broken_run_stops_with_its_last_step_on_record(toys, monkeypatch):
    """No group differs in its reward; three steps of that are enough."""
    stage = merged(
        S3,
        {
            "steps": 9,
            "losses": {"infonce": 0},
            "reward": FLAT_REWARD,
            "rollout": {"num_generations": 2, "max_thought_tokens": 1},
        },
    )
    health = {"nonzero_std_frac": 0.1, "patience": 3}
    told: list[str] = []
    monkeypatch.setattr("tests.train.toy_runs.SILENT", told.append)
    with pytest.raises(TrainingAborted, match="step 3: .*rewards without variance.* for 3 checks"):
        run_toy(toy_config(toys, {"s3": stage}, health=health))
    (warning,) = [text for text in told if "rewards without variance" in text]
    assert warning.startswith("warning: step 1: nearly all groups")
    assert [line["step"] for line in lines_of(toys)] == [1, 2, 3]
    logged = [json.loads(line) for line in (toys / "run/thoughts.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged if line["of"] == "rollout"][-1] == 3


def test_adapters_start_from_those_of_another_run(toys):
    lora = {"rank": 2, "alpha": 4.0, "targets": ["q", "v"]}
    first = run_toy(toy_config(toys, {"s1": S1}, model={"lora": lora}))
    adapter = first.folder / "stages/s1"
    second = toy_config(
        toys, {"s1": merged(S1, {"steps": 1})}, model={"path": str(adapter)}, output=str(toys / "2")
    )
    result = run_toy(second)
    ours, theirs = read_adapter(result.folder / "stages/s1"), read_adapter(adapter)
    assert ours.config == theirs.config
    assert ours.metadata.base_fingerprint == theirs.metadata.base_fingerprint
    assert ours.fingerprint != theirs.fingerprint
    wider = toy_config(
        toys, {"s1": S1}, model={"path": str(adapter), "lora": {"rank": 4}}, output=str(toys / "3")
    )
    with pytest.raises(ConfigError, match="is an adapter with"):
        run_toy(wider)
    assert len(jax.devices()) == 8
