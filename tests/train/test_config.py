"""Settings of a training run: what contradicts itself is refused with its key."""

from typing import Any

import pytest

from t1_jax.config import load_config, undocumented_fields
from t1_jax.errors import ConfigError
from t1_jax.model import LoraConfig
from t1_jax.train import StageConfig, TrainConfig
from t1_jax.train.config import LossWeights, ModelConfig
from t1_jax.train.data import StageDataConfig
from tests.train.toy_runs import S1, S2, S3, merged, toy_config

SFT = LossWeights(sft=1.0)


@pytest.mark.parametrize("cls", [TrainConfig, StageConfig])
def test_every_field_is_explained(cls):
    assert undocumented_fields(cls) == []


def test_a_row_that_is_moved_is_stored():
    lora = LoraConfig(rank=2, alpha=4.0, emb_row=False)
    with pytest.raises(ConfigError, match="emb_row=false drops"):
        ModelConfig(emb_token_init="end", lora=lora)
    assert ModelConfig(emb_token_init="mean", lora=lora).lora == lora


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "either steps or epochs"),
        ({"steps": 1, "epochs": 1.0}, "either steps or epochs"),
        ({"steps": 0}, "steps must be above 0"),
        ({"epochs": 0.0}, "epochs must be above 0"),
        ({"steps": 1, "validate_every": -1}, "validate_every must be at least 0"),
        ({"steps": 1, "think": False}, "no thought to imitate"),
        ({"steps": 1, "losses": LossWeights(triplet=1.0),
          "data": StageDataConfig(hard_negatives=0)}, "data.hard_negatives is 0"),
        ({"steps": 1, "fixed_thought": "The embedding is <emb_token>"}, "which the trainer"),
        ({"steps": 1, "sample_thoughts": True}, "no loss compares embeddings"),
        ({"steps": 1, "contrast_reference_thoughts": True, "losses": LossWeights(infonce=1.0)},
            "needs sample_thoughts"),
        ({"steps": 1, "sample_thoughts": True, "think": False, "losses": LossWeights(infonce=1.0)},
         "no thought to imitate or to sample"),
        ({"steps": 1, "sample_thoughts": True, "fixed_thought": "it",
          "losses": LossWeights(infonce=1.0)}, "fixed_thought needs a stage that thinks"),
        ({"steps": 1, "fixed_thought": " "}, "fixed_thought is blank"),
        ({"steps": 1, "pack": True, "losses": LossWeights(infonce=1.0)}, "no loss but sft"),
        ({"steps": 1, "think": False, "fixed_thought": "it", "losses": LossWeights(infonce=1.0)},
         "fixed_thought needs a stage that thinks"),
    ],
)  # fmt: skip
def test_stages_that_contradict_themselves(fields: dict[str, Any], told: str):
    with pytest.raises(ConfigError, match=told):
        StageConfig(**{"losses": SFT, **fields})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({}, "at least one above 0"),
        ({"sft": -1.0, "infonce": 1.0}, "0 or more"),
    ],
)
def test_losses_that_contradict_themselves(fields, told):
    with pytest.raises(ConfigError, match=told):
        LossWeights(**fields)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"seed": 2**64}, "seed must be an integer from 0 to"),
        ({"stages": {"s1": {"data": {"seed": -1}}}}, "stages.s1.data: seed must be an integer"),
        ({"health": {"max_skipped_updates": -1}}, "health: max_skipped_updates must be at least 0"),
        ({"max_minutes": 0.0}, "max_minutes must be above 0"),
        ({"watchdog_minutes": 0.0}, "watchdog_minutes must be above 0"),
        ({"resume": True, "overwrite": True}, "contradict each other"),
        ({"run": ["s4"]}, "unknown stages: s4"),
        ({"validation": {"queries": 0}}, "validation: queries must be at least 1"),
        ({"validation": {"temperature": -0.5}}, "validation: temperature must lie"),
        ({"data": {"near_duplicates": 1.5}}, "near_duplicates must be above 0"),
        ({"data": {"leaks": "keep"}}, "data.leaks"),
        ({"data": {"lengths": {"query": 1}}}, "data.lengths: query must be at least 8"),
        ({"stages": {"s1": {"rollout": {"num_iterations": 0}}}}, "num_iterations must be"),
        ({"stages": {"s1": {"rollout": {"temperature": 0.0}}}}, "a greedy rollout"),
        ({"stages": {"s1": {"rollout": {"temperature": float("nan")}}}}, "temperature must lie"),
        ({"stages": {"s1": {"rollout": {"temperature": float("inf")}}}}, "temperature must lie"),
        ({"stages": {"s1": {"losses": {"sft": float("nan")}}}}, "losses need finite weights"),
        ({"stages": {"s1": {"reward": {"terms": {"log_rnk": 1.0}}}}}, "unknown reward 'log_rnk'"),
        ({"stages": {"s1": {"policy": {"loss": "grop"}}}}, "unknown loss 'grop'"),
        ({"stages": {"s1": {"polcy": {}}}}, "did you mean 'stages.s1.policy'|unknown key"),
        ({"stages": {"s2": {"steps": 3}}}, "stages.s2.losses"),
    ],
)
def test_runs_that_contradict_themselves_are_refused_by_key(toys, fields, told):
    with pytest.raises(ConfigError, match=told):
        toy_config(toys, {"s1": S1}, **fields)


def test_a_run_needs_stages_and_data(toys):
    with pytest.raises(ConfigError, match="at least one stage"):
        TrainConfig()
    with pytest.raises(ConfigError, match="needs training data"):
        TrainConfig(stages={"s1": StageConfig(losses=SFT, steps=1)})


def test_stages_run_in_the_order_written_whatever_run_says(toys):
    stages = {"b": S1, "a": S2, "c": S3}
    assert toy_config(toys, stages).running == ("b", "a", "c")
    assert toy_config(toys, stages, run=["c", "b"]).running == ("b", "c")


def test_overrides_reach_a_stage(toys):
    toy_config(toys, {"s1": S1})
    settings = ["stages.s1.steps=7", "stages.s1.optimizer.learning_rate=1e-4"]
    changed = load_config(TrainConfig, toys / "toy.yaml", settings)
    assert changed.stages["s1"].steps == 7
    assert changed.stages["s1"].optimizer.learning_rate == 1e-4
    assert merged(S1, {"steps": 7})["data"] == S1["data"]
