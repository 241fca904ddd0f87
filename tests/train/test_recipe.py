import dataclasses
from pathlib import Path

import pytest

from t1_jax.errors import ConfigError
from t1_jax.retrieval import Document
from t1_jax.text import load_preset
from t1_jax.train.config import StageConfig
from t1_jax.train.data import Pairs, TrainingRecord, prepare_pairs
from t1_jax.train.estimate import DataSize, Estimate, Speed
from t1_jax.train.recipe import BaseModel, Device, choose_recipe, config_of
from tests.train.toy_runs import S1, S2, S3, SHAPE, toy_config

CPU = Device(platform="cpu", count=1, memory=16 << 30)
H100 = Device(platform="gpu", count=1, memory=80 << 30)
SLOW = Speed(train=1e10, decode=1e9, compile_seconds=60.0)
FAST = Speed(train=1e14, decode=1e12, compile_seconds=60.0)
LARGE = dataclasses.replace(
    SHAPE,
    embed_dim=2560,
    num_layers=36,
    windows=(0,) * 36,
    num_heads=32,
    head_dim=128,
    mlp_dim=9728,
)


def pairs_of(count: int, *, negatives: bool = False):
    documents = tuple(
        Document(id=f"d{n}", text=f"Text number {n * 7919} tells of {n * 31} and of {n * 17}.")
        for n in range(count)
    )
    records = tuple(
        TrainingRecord(
            query_id=f"q{n}",
            query=f"where is {n * 6007} told",
            positives={f"d{n}": 1},
            negatives=(f"d{(n + 1) % count}",) if negatives else (),
            thoughts=(f"text {n}",),
        )
        for n in range(count)
    )
    return prepare_pairs(
        Pairs(documents=documents, records=records, notes={}),
        "pairs",
        held_out=True,
        write_thoughts=lambda data: (data.records, 0),
    )


@pytest.fixture(scope="module")
def few():
    return pairs_of(60)


@pytest.fixture
def base(tiny_tokenizer) -> BaseModel:
    return BaseModel(
        path="tiny",
        shape=SHAPE,
        tokenizer=tiny_tokenizer,
        is_adapter=False,
        is_trained=False,
        preset=load_preset("t1-compact"),
    )


def plan(model, prepared, device, speed, minutes=10.0):
    return choose_recipe(model, prepared, Path("runs/x"), device, speed, minutes=minutes)


def test_more_minutes_give_more_steps_and_the_estimate_stays_within_them(base):
    prepared = pairs_of(400)
    model = dataclasses.replace(
        base,
        shape=dataclasses.replace(
            SHAPE, embed_dim=576, num_layers=30, windows=(0,) * 30, mlp_dim=1536
        ),
    )
    short, long = (
        plan(model, prepared, CPU, Speed(train=2e11, decode=4e10, compile_seconds=60.0), minutes)
        for minutes in (6.0, 20.0)
    )
    assert all(long.steps[name] >= short.steps[name] for name in long.steps)
    assert long.steps["s2"] > 2 * short.steps["s2"]
    assert short.seconds < 6 * 60 * 1.3
    assert long.seconds < 20 * 60 * 1.1


def test_few_pairs_are_not_repeated_for_hours(base, few):
    found = plan(base, few, CPU, FAST, minutes=600.0)
    assert found.seconds < 60 * 60
    assert found.steps["s2"] <= 60


def test_a_slow_machine_still_trains_every_stage(base, few):
    model = dataclasses.replace(base, shape=LARGE)
    found = plan(model, few, dataclasses.replace(CPU, memory=1 << 40), SLOW, minutes=1.0)
    assert min(found.steps.values()) >= 4
    assert found.seconds > 60


def test_a_base_model_gets_adapters_and_an_adapter_is_trained_further(base, few):
    config = config_of(plan(base, few, CPU, FAST).tree)
    assert config.model.lora is not None
    assert (config.model.preset, config.model.emb_token_init) == ("t1-compact", "end")
    adapter = dataclasses.replace(base, is_adapter=True, is_trained=True)
    config = config_of(plan(adapter, few, CPU, FAST).tree)
    assert (config.model.lora, config.model.preset) == (None, None)
    base_rate = config_of(plan(base, few, CPU, FAST).tree).stages["s1"].optimizer.learning_rate
    assert config.stages["s1"].optimizer.learning_rate == base_rate / 2


def test_an_accelerator_gets_larger_batches_and_a_large_model_a_lower_rate(base):
    prepared = pairs_of(1000)
    cpu = config_of(plan(base, prepared, CPU, FAST).tree)
    gpu = config_of(plan(base, prepared, H100, FAST).tree)
    large = config_of(plan(dataclasses.replace(base, shape=LARGE), prepared, H100, FAST).tree)
    for name in ("s1", "s2", "s3"):
        assert gpu.stages[name].data.batch_size > cpu.stages[name].data.batch_size
        rates = [config.stages[name].optimizer.learning_rate for config in (gpu, large)]
        assert rates[1] < rates[0] / 5
    assert large.stages["s2"].micro_batch.tokens <= gpu.stages["s2"].micro_batch.tokens


def test_weights_that_fit_no_device_are_sharded_or_refused(base, few):
    model = dataclasses.replace(base, shape=LARGE)
    small = Device(platform="tpu", count=8, memory=16 << 30)
    assert plan(model, few, small, FAST).tree["mesh"] == {"data": 1, "fsdp": 8}
    assert plan(base, few, small, FAST).tree["mesh"] == {"data": -1}
    with pytest.raises(ConfigError, match="needs about 21 GB for training") as caught:
        plan(model, few, dataclasses.replace(small, count=1), FAST)
    assert "-m smollm2-135m-instruct" in str(caught.value.hint)


def test_hard_negatives_are_used_where_there_are_some(base, few):
    assert config_of(plan(base, few, CPU, FAST).tree).stages["s2"].data.hard_negatives == 0
    found = plan(base, pairs_of(60, negatives=True), CPU, FAST)
    assert config_of(found.tree).stages["s2"].data.hard_negatives == 1


def test_overrides_apply_to_the_chosen_config(base, few):
    tree = plan(base, few, CPU, FAST).tree
    assert config_of(tree, ["stages.s2.steps=7"]).stages["s2"].steps == 7


def test_the_time_of_a_step_grows_with_what_it_computes(tmp_path):
    size = DataSize(
        queries=100,
        validation_queries=10,
        documents=50,
        query_tokens=20.0,
        thought_tokens=10.0,
        document_tokens=40.0,
    )
    estimate = Estimate(SHAPE, size, SLOW)
    config = toy_config(tmp_path, {"s1": S1, "s2": S2, "s3": S3})
    stages: dict[str, StageConfig] = dict(config.stages)
    seconds = {name: estimate.step(stage) for name, stage in stages.items()}
    assert 0 < seconds["s1"] < seconds["s2"]
    more = dataclasses.replace(
        stages["s3"], rollout=dataclasses.replace(stages["s3"].rollout, num_generations=8)
    )
    assert estimate.step(more) > 1.3 * seconds["s3"]
    assert estimate.validations(config, {"s1": 4, "s2": 4, "s3": 4}) == pytest.approx(
        3 * (estimate.encode(50) + estimate.think(4, 4))
    )
