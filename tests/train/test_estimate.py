"""How long a run takes, and how many steps fit."""

import dataclasses

import pytest

from t1_jax.train import fitted_steps
from t1_jax.train.estimate import Speed
from tests.train.toy_runs import S1, S2, S3, SHAPE, toy_config


def speed(factor: float) -> Speed:
    return Speed(train=1e9 * factor, decode=1e8 * factor, compile_seconds=10.0)


@pytest.fixture
def config(toys):
    config = toy_config(toys, {"s1": S1, "s2": S2, "s3": S3})
    stages = {
        name: dataclasses.replace(stage, steps=steps)
        for (name, stage), steps in zip(config.stages.items(), (40, 80, 20), strict=True)
    }
    return dataclasses.replace(config, stages=stages)


def test_a_fast_machine_takes_all_steps_and_a_slow_one_a_part_of_each_stage(config) -> None:
    assert fitted_steps(config, SHAPE, speed(1e3), minutes=5.0) == {"s1": 40, "s2": 80, "s3": 20}
    fewer = fitted_steps(config, SHAPE, speed(1), minutes=0.5)
    assert 2 < fewer["s1"] < 40
    assert fewer["s2"] == pytest.approx(2 * fewer["s1"], abs=2)
    assert fewer["s3"] == pytest.approx(fewer["s1"] / 2, abs=2)


def test_every_stage_keeps_two_steps_when_there_is_no_time_at_all(config) -> None:
    assert fitted_steps(config, SHAPE, speed(1e-3), minutes=1.0) == {"s1": 2, "s2": 2, "s3": 2}
    one = dataclasses.replace(config.stages["s3"], steps=1)
    config = dataclasses.replace(config, stages={**config.stages, "s3": one})
    assert fitted_steps(config, SHAPE, speed(1e-3), minutes=1.0)["s3"] == 1
