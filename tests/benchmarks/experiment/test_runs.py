"""Where a run's weights lie, and what they cost."""

import shutil
from pathlib import Path

import pytest

from benchmarks.experiment.runs import (
    find_weights,
    fingerprint,
    steps_of,
    training_tokens,
    validation_curve,
)
from t1_jax.train.export import training_summary
from tests.benchmarks.experiment.toys import write_run
from tests.train.toy_runs import S1, S2, toy_config, write_model, write_zoo, write_zoo_records
from tests.train.toy_stages import ToyStages


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text("{}")
    return folder


def test_a_run_stands_for_its_last_stage_once_that_is_done(tmp_path, model):
    run = write_run(tmp_path / "run", model)
    assert find_weights(run) == run / "stages/s2"
    assert find_weights(run / "stages/s1") == run / "stages/s1"
    assert find_weights(tmp_path / "none") is None
    shutil.rmtree(run / "stages/s2")
    assert find_weights(run) is None


def test_tokens_are_those_read_up_to_the_end_of_the_stage(tmp_path, model):
    run = write_run(tmp_path / "run", model)
    assert training_tokens(run / "stages/s1") == 200
    assert training_tokens(run / "stages/s2") == 500
    assert training_tokens(model) is None
    later = write_run(tmp_path / "later", model, start=str(run / "stages/s1"))
    assert training_tokens(later / "stages/s2") == 700


def test_the_curve_has_every_validation(tmp_path, model):
    curve = validation_curve(write_run(tmp_path / "run", model))
    assert curve == {
        "run": "run",
        "stage_ends": {"s1": 2, "s2": 5},
        "points": [
            {"step": 0, "tokens": 0, "validation/ndcg@10": 0.1},
            {"step": 2, "tokens": 200, "validation/ndcg@10": 0.25},
            {"step": 5, "tokens": 500, "validation/ndcg@10": 0.5},
        ],
    }


def test_another_file_has_another_fingerprint_but_the_card_does_not_matter(model):
    before = fingerprint(model)
    (model / "README.md").write_text("words")
    assert fingerprint(model) == before
    (model / "config.json").write_text("{ }")
    assert fingerprint(model) != before


def test_steps_are_read_as_the_trainer_writes_them(tmp_path, tiny_tokenizer):
    write_model(tmp_path / "model", tiny_tokenizer)
    write_zoo(tmp_path / "zoo")
    write_zoo_records(tmp_path / "zoo.jsonl")
    data = ToyStages(tmp_path).data
    config = toy_config(tmp_path, {"s1": S1, "s2": S2})
    account = training_summary(config, data, None, {"s1": 4, "s2": 12}, {})
    (tmp_path / "README.md").write_text(account.training)
    assert steps_of(tmp_path) == {"s1": 4, "s2": 12}
