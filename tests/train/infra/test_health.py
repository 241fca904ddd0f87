"""A broken run stops with a word; a doubtful one is warned of once."""

import json
from typing import Any

import pytest

from t1_jax.errors import ConfigError
from t1_jax.train.infra import Health, HealthConfig, TrainingAborted

SOUND = {
    "loss": 2.0,
    "loss/policy": -0.1,
    "grad_norm": 3.0,
    "rollout/truncated_frac": 0.1,
    "rollout/missing_emb_frac": 0.1,
    "rollout/nonzero_std_frac": 0.9,
    "rollout/log_prob_gap": 0.015,
    "rollout/entropy": 1.2,
    "embedding/mean_cosine": 0.4,
}
FAULTS = {
    "rollout/truncated_frac": (0.81, "thoughts are truncated"),
    "rollout/missing_emb_frac": (0.9, "end without <emb_token>"),
    "rollout/nonzero_std_frac": (0.05, "without variance"),
    "rollout/log_prob_gap": (0.21, "different log-probabilities"),
    "rollout/entropy": (0.01, "entropy has collapsed"),
    "embedding/mean_cosine": (0.99, "queries have collapsed"),
}


def test_a_sound_run_goes_on_without_a_word() -> None:
    health = Health(HealthConfig(patience=1))
    assert all(health.check(step, SOUND) == () for step in range(5))
    assert health.check(5, {}) == ()
    assert health.check(6, {"reward": float("nan")}) == ()


@pytest.mark.parametrize("name", ["loss", "loss/policy"])
@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_losses_that_are_not_finite_stop_at_once(name: str, value: float) -> None:
    health = Health(HealthConfig(patience=100))
    with pytest.raises(TrainingAborted, match=f"step 7: {name} is {value}") as caught:
        health.check(7, SOUND | {name: value})
    assert "learning rate" in (caught.value.hint or "")


def test_a_few_skipped_updates_are_told_and_more_stop_the_run() -> None:
    health = Health(HealthConfig(max_skipped_updates=2))
    bad = SOUND | {"grad_norm": float("nan"), "loss": float("nan")}
    for count in (1, 2):
        (told,) = health.check(count, bad | {"skipped_in_a_row": count})
        assert f"step {count}: the gradient is not finite" in told
        assert f"({count} in a row; the run stops after 2)" in told
    with pytest.raises(
        TrainingAborted, match="step 3: the gradient of 3 updates in a row"
    ) as error:
        health.check(3, bad | {"skipped_in_a_row": 3})
    assert error.value.is_sound
    assert health.check(4, SOUND | {"skipped_in_a_row": 0}) == ()


@pytest.mark.parametrize("metric", FAULTS)
def test_a_fault_is_warned_of_once_and_stops_after_its_patience(metric: str) -> None:
    value, word = FAULTS[metric]
    health = Health(HealthConfig(patience=3, log_prob_gap_warning=None))
    (warning,) = health.check(1, SOUND | {metric: value})
    assert word in warning
    assert metric in warning
    assert health.check(2, SOUND | {metric: value}) == ()
    with pytest.raises(TrainingAborted, match="for 3 checks") as caught:
        health.check(3, SOUND | {metric: value})
    assert word in caught.value.message
    assert caught.value.hint


@pytest.mark.parametrize("metric", FAULTS)
def test_a_metric_that_recovers_is_counted_anew(metric: str) -> None:
    health = Health(HealthConfig(patience=2))
    for step in range(6):
        bad = step % 2 == 0
        warned = health.check(step, SOUND | {metric: FAULTS[metric][0]} if bad else SOUND)
        assert bool(warned) == bad


def test_steps_without_the_metric_do_not_count() -> None:
    health = Health(HealthConfig(patience=2))
    health.check(1, {"rollout/entropy": 0.0})
    health.check(2, {"loss": 1.0})
    with pytest.raises(TrainingAborted):
        health.check(3, {"rollout/entropy": 0.0})


def test_a_metric_that_is_no_number_is_a_fault() -> None:
    with pytest.raises(TrainingAborted, match="entropy is nan"):
        Health(HealthConfig(patience=1)).check(1, {"rollout/entropy": float("nan")})


def test_a_gap_between_warning_and_limit_is_only_warned_of() -> None:
    health = Health(HealthConfig(patience=2))
    warned = [health.check(step, {"rollout/log_prob_gap": 0.1}) for step in range(5)]
    assert [len(words) for words in warned] == [1, 0, 0, 0, 0]


def test_truncated_thoughts_for_validation_queries_are_warned_of() -> None:
    health = Health(HealthConfig(patience=1))
    (warning,) = health.check(3, {"validation/truncated_frac": 1.0})
    assert "most thoughts for validation queries are truncated" in warning
    assert health.check(4, SOUND) == ()
    assert health.check(6, {"validation/truncated_frac": 1.0}) == ()


def test_a_check_that_is_off_never_stops() -> None:
    fields: dict[str, Any] = {
        "truncated_frac": None,
        "missing_emb_frac": None,
        "nonzero_std_frac": None,
        "log_prob_gap": None,
        "log_prob_gap_warning": None,
        "entropy": None,
        "mean_cosine": None,
    }
    health = Health(HealthConfig(patience=1, **fields))
    assert health.check(1, {metric: value for metric, (value, _) in FAULTS.items()}) == ()


def test_the_count_goes_on_after_a_resume() -> None:
    health = Health(HealthConfig(patience=2))
    health.check(1, {"rollout/entropy": 0.0})
    again = Health(HealthConfig(patience=2))
    again.load_state_dict(json.loads(json.dumps(health.state_dict())))
    with pytest.raises(TrainingAborted, match="step 2"):
        again.check(2, {"rollout/entropy": 0.0})


@pytest.mark.parametrize(
    "fields", [{"patience": 0}, {"truncated_frac": 1.1}, {"entropy": -0.1}, {"mean_cosine": -1.0}]
)
def test_senseless_limits_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(fields))):
        HealthConfig(**fields)
