import shutil
from pathlib import Path

import pytest

from tests.train.toy_runs import write_model, write_zoo, write_zoo_records

TRAINING = """
output: {root}/training
model: {{dtype: float32, lora: {{rank: 2}}}}
data:
  sources: {{zoo: {{collection: {root}/zoo, records: [{root}/zoo.jsonl]}}}}
  lengths: {{query: 64, thought: 16, document: 64}}
  near_duplicates: 1.0
stages:
  s1:
    losses: {{sft: 1}}
    steps: 2
    data: {{batch_size: 8}}
    optimizer: {{learning_rate: 1.0e-3}}
  s2:
    losses: {{sft: 1, infonce: 1}}
    steps: 2
    data: {{batch_size: 8, hard_negatives: 1}}
    optimizer: {{learning_rate: 1.0e-3}}
validation: {{max_thought_tokens: 4}}
validate_first: true
"""


@pytest.fixture
def root(tmp_path, tiny_tokenizer, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write_model(tmp_path / "model", tiny_tokenizer)
    write_zoo(tmp_path / "zoo")
    write_zoo_records(tmp_path / "zoo.jsonl")
    (tmp_path / "training.yaml").write_text(TRAINING.format(root=tmp_path))
    return tmp_path


@pytest.fixture
def fields(root) -> tuple[str, ...]:
    return (
        f"model={root / 'model'}",
        f"training={root / 'training.yaml'}",
        f"collections=[{root / 'zoo'}]",
        "dtype=float32",
        "evaluation.max_thought_tokens=4",
        "evaluation.bootstrap_samples=50",
        "evaluation.controls=[own, no-think]",
    )


def test_it_learns_first_and_then_evaluates_what_it_learnt(t1, fields, root):
    answer = t1("quickstart", *fields)
    assert answer.code == 0, answer.err
    for words in ("untrained", "s1", "s2", "zoo", "own thought"):
        assert words in answer.out
    assert "weights of 4 short steps" in answer.out
    assert "is a base model" not in answer.out
    assert (root / "training" / "stages" / "s2" / "adapter_model.safetensors").exists()

    shutil.rmtree(root / "runs")
    again = t1("quickstart", *fields, "--json")  # a second run learns anew
    assert again.code == 0, again.err
    assert again.json["training"]["steps"] == 4
    assert set(again.json["training"]["validations"]) == {"untrained", "s1", "s2"}


def test_given_weights_are_evaluated_whatever_it_learns(t1, fields, root):
    answer = t1("quickstart", *fields, "training=null", f"weights={root / 'nowhere'}")
    assert answer.code == 2
    assert "weights=null" in answer.err
    write = t1("quickstart", *fields)
    assert write.code == 0, write.err
    given = root / "training" / "stages" / "s1"
    answer = t1("quickstart", *fields, "training=null", f"weights={given}")
    assert answer.code == 0, answer.err
    assert f"These are the weights in {given}" in answer.out.replace("\n", "")


def test_a_fault_in_the_training_config_is_told_before_anything_runs(t1, fields, root):
    (root / "training.yaml").write_text("stagess: {}")
    answer = t1("quickstart", *fields)
    assert answer.code == 2
    assert "did you mean 'stages'" in answer.err
