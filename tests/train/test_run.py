"""Whole runs: a curriculum that learns, and bad input that is refused before anything compiles."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from t1_jax.config import load_config
from t1_jax.errors import ConfigError, DataError, T1Error, UnsupportedError, WeightsError
from t1_jax.parallel import MeshConfig, count_compilations, make_mesh_context
from t1_jax.text import presets
from t1_jax.train import TrainConfig, run
from t1_jax.train.data import SourceConfig
from t1_jax.train.rewards import RewardContext, register_reward
from tests.train.toy_runs import (
    ASKED,
    S1,
    S3,
    merged,
    run_toy,
    toy_config,
    write_model,
    write_zoo_records,
    zoo_records,
)

CONFIGS = Path(__file__).parents[2] / "configs"
PRESETS = Path(presets.__file__).with_suffix("")
WORDINGS = ("What does the {} drink?", "What does the {} do?", "Does the {} eat?",
            "Is the {} old?", "Why does the {} sleep?")  # fmt: skip


def test_the_quickstarts_recipe_lifts_retrieval(toys: Path):
    """Held-out questions about animals, from a model that knew nothing.

    The recipe is as it is, but for the model, the data, a rate and number of steps that suit them,
    and rows of one length.
    """
    write_zoo_records(toys / "zoo.jsonl", zoo_records((*ASKED["train"], *WORDINGS)))
    sizes = ["data.batch_size=8", "steps=60", "optimizer.learning_rate=5.0e-3"]
    changes = [
        f"output={toys / 'run'}",
        f"model.path={toys / 'model'}",
        "model.dtype=float32",
        "validation.queries=null",
        "validation.documents=null",
        *(f"stages.{name}.{size}" for name in ("s1", "s2") for size in sizes),
        *(f"stages.{name}.micro_batch.length_step=112" for name in ("s1", "s2", "s3")),
    ]
    config = load_config(TrainConfig, CONFIGS / "quickstart_training.yaml", changes)
    zoo = SourceConfig(collection=str(toys / "zoo"), records=(str(toys / "zoo.jsonl"),))
    config = replace(config, data=replace(config.data, sources={"zoo": zoo}))
    result = run_toy(config)
    scores = {name: found["validation/ndcg@10"] for name, found in result.validations.items()}
    assert list(scores) == ["untrained", "s1", "s2", "s3"]
    assert scores["untrained"] < 0.6
    assert min(scores["s2"], scores["s3"]) > 0.75
    assert result.best is not None
    assert result.best[0] == max(scores.values())
    # Thoughts are learned too: they end by themselves, and name the animal.
    assert result.validations["s3"]["validation/truncated_frac"] < 0.2
    thoughts = (result.folder / "thoughts.jsonl").read_text().splitlines()
    lines = [line for line in map(json.loads, thoughts) if line["of"] == "validation"]
    last = [line for line in lines if line["step"] == result.steps]
    named = [line["thought"] in line["gold"][0] for line in last]
    assert np.mean(named) > 0.3  # one in eight by chance
    for name in ("thoughts.html", "config.yaml", "versions.json", "data.json", "stages/s3", "best"):
        assert (result.folder / name).exists()


@register_reward("nan_for_tests")
def nan_for_tests(context: RewardContext) -> np.ndarray:
    """Not a number for a thought that says nothing."""
    lengths = [[thought.reasoning_tokens for thought in group] for group in context.thoughts]
    return np.where(np.array(lengths) == 0, np.nan, 1.0)


@register_reward("few_for_tests")
def few_for_tests(context: RewardContext) -> np.ndarray:
    """One number too few for each query."""
    return np.zeros((context.shape[0], context.shape[1] - 1))


def test_bad_input_is_refused_before_anything_compiles(toys, monkeypatch):
    def never(*args: object, **kwargs: object) -> None:
        raise AssertionError("it was loaded")

    monkeypatch.setattr(run, "load_trainable_model", never)
    mesh = make_mesh_context(MeshConfig(data=8))
    with count_compilations() as compiled:
        with pytest.raises(ConfigError, match="one row of 128 tokens for each of 8 devices"):
            run_toy(toy_config(toys, {"s1": merged(S1, {"micro_batch": {"rows": 4}})}), mesh)
        with pytest.raises(UnsupportedError, match="prefetch runs two programs at once"):
            run_toy(toy_config(toys, {"s3": merged(S3, {"rollout": {"prefetch": True}})}), mesh)
        with pytest.raises(ConfigError, match="does not cover 8 devices"):
            run.train(toy_config(toys, {"s1": S1}, mesh={"data": 3}), log=print)
        with pytest.raises(WeightsError, match="nowhere"):
            run_toy(toy_config(toys, {"s1": S1}, model={"path": "nowhere"}))
        with pytest.raises(ConfigError, match="a query of zoo takes .* of data.lengths.query=20"):
            run_toy(toy_config(toys, {"s1": S1}, data={"lengths": {"query": 20}}))
        preset = yaml.safe_load((PRESETS / "t1.yaml").read_text())
        preset["name"] = "words"
        preset["document_template"] = "<|im_start|>user\n{text} in short<|im_end|>"
        (toys / "words.yaml").write_text(yaml.safe_dump(preset))
        with pytest.raises(ConfigError, match="which sentence-transformers cannot express"):
            run_toy(toy_config(toys, {"s1": S1}, model={"preset": str(toys / "words.yaml")}))
        metric = {"metric": "validation/zo/ndcg@10"}
        with pytest.raises(ConfigError, match="metric=validation/zo/ndcg@10 is not a score"):
            run_toy(toy_config(toys, {"s1": S1}, checkpoints=metric))
        for reward, told in (
            (
                "nan_for_tests",
                "the reward 'nan_for_tests' .* returned nan for thought 0 of",
            ),
            ("few_for_tests", r"stage s3: .*not float\[2, 4\]"),
        ):
            stage = merged(S3, {"reward": {"terms": {reward: 1.0}}})
            with pytest.raises(ConfigError, match=told):
                run_toy(toy_config(toys, {"s1": S1, "s3": stage}))
        with (toys / "zoo.jsonl").open("a") as file:
            file.write('{"query_id": "x", "query": "x", "positives": ["unicorn"]}\n')
        with pytest.raises(DataError, match=r"zoo.jsonl:\d+: .*'unicorn', which the corpus"):
            run_toy(toy_config(toys, {"s1": S1}))
    assert compiled.count == 0
    assert not (toys / "run").exists()


@pytest.mark.parametrize("changed", ["model", "prompt", "lora", "seed"])
def test_anothers_checkpoint_is_refused_before_anything_compiles(
    toys, tiny_tokenizer, monkeypatch, changed
):
    run_toy(toy_config(toys, {"s1": merged(S1, {"steps": 1})}))
    fields: dict[str, Any] = {"resume": True}
    if changed == "model":
        write_model(toys / "other", tiny_tokenizer, seed=1)
        fields["model"] = {"path": str(toys / "other")}
    elif changed == "prompt":
        fields["model"] = {"preset": "t1-compact"}
    elif changed == "lora":
        fields["model"] = {"lora": {"rank": 2}}
    else:
        fields["seed"] = 1
    before = {path: path.read_bytes() for path in (toys / "run").glob("*.*")}
    monkeypatch.setattr(run, "load_trainable_model", None)
    with (
        count_compilations() as compiled,
        pytest.raises(WeightsError, match=f"belongs to another {changed}"),
    ):
        run_toy(toy_config(toys, {"s1": merged(S1, {"steps": 2})}, **fields))
    assert compiled.count == 0
    assert {path: path.read_bytes() for path in (toys / "run").glob("*.*")} == before


def test_stages_that_the_data_cannot_fill_leave_no_run_folder(toys):
    for stage, told in (
        (merged(S1, {"data": {"batch_size": 100}}), "more than once"),
        (merged(S1, {"data": {"mixture": {"zo": 1.0}}}), "mixture.zo is not a set"),
        (merged(S1, {"data": {"thoughts": "none"}}), "learns from reference thoughts"),
    ):
        with pytest.raises(T1Error, match=told):
            run_toy(toy_config(toys, {"fine": S1, "bad": stage}))
    assert not (toys / "run").exists()


def test_another_config_or_other_data_are_not_mixed_into_a_run(toys, monkeypatch):
    short = merged(S1, {"steps": 1})
    run_toy(toy_config(toys, {"s1": short}))
    with monkeypatch.context() as patch:
        patch.setattr(run, "load_trainable_model", None)
        with pytest.raises(ConfigError, match="stages.s1.steps was 1, is 2"):
            run_toy(toy_config(toys, {"s1": merged(S1, {"steps": 2})}))
    longer = run_toy(toy_config(toys, {"s1": merged(S1, {"steps": 2})}, resume=True))
    assert longer.steps == 2
    with (toys / "zoo.jsonl").open("a") as file:
        file.write('{"query_id": "x", "query": "A new one", "positives": ["cat"]}\n')
    with monkeypatch.context() as patch:
        patch.setattr(run, "load_trainable_model", None)
        with pytest.raises(DataError, match="was trained on other data"):
            run_toy(toy_config(toys, {"s1": merged(S1, {"steps": 2})}))
    repeated = run_toy(toy_config(toys, {"s1": short}, overwrite=True))
    assert repeated.steps == 1
    assert not (toys / "run/config.before-1.yaml").exists()
    assert not (toys / "run.before-1").exists()


def test_a_run_that_is_not_overwritten_after_all_is_still_there(toys, monkeypatch):
    stages = {"s1": merged(S1, {"steps": 1})}
    run_toy(toy_config(toys, stages))
    own = {"path": str(toys / "run/stages/s1")}
    with pytest.raises(ConfigError, match="would remove .*run/stages/s1, which this run reads"):
        run_toy(toy_config(toys, stages, model=own, overwrite=True))
    monkeypatch.setattr("t1_jax.train.infra.tracking.find_spec", lambda name: None)
    with pytest.raises(UnsupportedError, match="wandb, which is not installed"):
        run_toy(toy_config(toys, stages, tracking={"wandb": "online"}, overwrite=True))
    assert (toys / "run/stages/s1/model.safetensors").exists()

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("no login")

    monkeypatch.setattr("t1_jax.train.trainer.Tracker", fail)
    with pytest.raises(RuntimeError, match="no login"):
        run_toy(toy_config(toys, stages, overwrite=True))
    assert (toys / "run.before-1/stages/s1/model.safetensors").exists()
