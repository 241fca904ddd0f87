import json
import shutil
from pathlib import Path

import pytest

from tests.train.toy_runs import write_model, write_zoo, write_zoo_records


@pytest.fixture
def fields(base_model, pets, tmp_path, monkeypatch):
    """The smallest quick start: a model and a collection that are on this machine."""
    monkeypatch.chdir(tmp_path)
    return (
        f"model={base_model}",
        "training=null",
        "weights=null",
        f"collections=[{pets}]",
        "dtype=float32",
        "evaluation.max_thought_tokens=4",
        "evaluation.bootstrap_samples=50",
        "retriever.max_document_tokens=128",
    )


def test_from_nothing_to_a_table_and_a_page_and_again(t1, fields, cache, tmp_path):
    answer = t1("quickstart", *fields)
    assert answer.code == 0, answer.err
    for words in ("BM25", "own thought", "no thought", "gold", "nDCG@10", "recall@10"):
        assert words in answer.out
    assert answer.out.count("was never trained to retrieve") == 2  # before and in the table
    folder = tmp_path / "runs" / "quickstart"
    assert str(folder / "report.html") in answer.out
    assert "<html" in (folder / "report.html").read_text()
    assert "max_thought_tokens: 4" in (folder / "config.yaml").read_text()
    assert "pets/test: encoding 12 documents" in answer.err
    assert "pets/test: own thought, 4 queries" in answer.err

    first = json.loads((folder / "results.json").read_text())["collections"][0]
    assert len(list((cache / "vectors").iterdir())) == 1
    again = t1("quickstart", *fields, "--json")
    assert again.code == 0, again.err
    second = again.json["collections"][0]
    assert [row["metrics"] for row in second["rows"]] == [row["metrics"] for row in first["rows"]]
    assert Path(again.json["report"]).name == "report.html"


def test_a_file_and_fields_together(t1, fields, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(
        "output: elsewhere\ncache_embeddings: false\nevaluation: {controls: [no-think]}\n"
    )
    answer = t1("quickstart", recipe, *fields, "evaluation.bm25=false")
    assert answer.code == 0, answer.err
    assert (tmp_path / "elsewhere" / "table.md").exists()
    assert not (tmp_path / "runs").exists()
    assert "BM25" not in answer.out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("evaluation.max_thought_token=3",), "did you mean 'evaluation.max_thought_tokens'?"),
        (("evaluation.max_thought_tokens=0",), "max_thought_tokens must be at least 1"),
        (("a.yaml", "b.yaml"), "more than one config"),
        (("nowhere.yaml",), "nowhere.yaml"),
        (("collections=[nowhere]",), "nowhere"),
        (("model=nowhere",), "nowhere"),
    ],
)
def test_bad_input(t1, fields, given, named):
    answer = t1("quickstart", *fields, *given)
    assert answer.code == 2
    assert named in answer.err
    assert not Path("runs").exists()


def test_a_folder_that_is_no_run_is_not_replaced(t1, fields, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    answer = t1("quickstart", *fields, "output=.")
    assert answer.code == 2
    assert "output=FOLDER" in answer.err
    assert (tmp_path / "thesis.txt").exists()


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
    micro_batch: {{rows: 8, length_step: 96}}
    optimizer: {{learning_rate: 1.0e-3}}
  s2:
    losses: {{sft: 1, infonce: 1}}
    steps: 2
    data: {{batch_size: 8, hard_negatives: 1}}
    micro_batch: {{rows: 8, length_step: 96}}
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
def training_fields(root) -> tuple[str, ...]:
    return (
        f"model={root / 'model'}",
        f"training={root / 'training.yaml'}",
        "weights=null",
        f"collections=[{root / 'zoo'}]",
        "dtype=float32",
        "evaluation.max_thought_tokens=4",
        "evaluation.bootstrap_samples=50",
        "evaluation.controls=[own, no-think]",
    )


def test_it_trains_first_and_evaluates_the_best_weights(t1, training_fields, root):
    answer = t1("quickstart", *training_fields)
    assert answer.code == 0, answer.err
    for words in ("untrained", "s1", "s2", "zoo", "own thought"):
        assert words in answer.out
    assert "result of 4 short steps" in answer.out
    assert "never trained" not in answer.out
    assert (root / "training" / "stages" / "s2" / "adapter_model.safetensors").exists()

    shutil.rmtree(root / "runs")
    again = t1("quickstart", *training_fields, "--json")  # a second run trains again
    assert again.code == 0, again.err
    assert again.json["training"]["steps"] == 4
    assert set(again.json["training"]["validations"]) == {"untrained", "s1", "s2"}


def test_given_weights_are_evaluated_instead(t1, training_fields, root):
    answer = t1("quickstart", *training_fields, "training=null", f"weights={root / 'nowhere'}")
    assert answer.code == 2
    assert "weights=null" in answer.err
    write = t1("quickstart", *training_fields)
    assert write.code == 0, write.err
    given = root / "training" / "stages" / "s1"
    answer = t1("quickstart", *training_fields, "training=null", f"weights={given}")
    assert answer.code == 0, answer.err
    assert f"Evaluated: {given}" in answer.out.replace("\n", "")


def test_an_invalid_training_config_is_an_error_before_anything_runs(t1, training_fields, root):
    (root / "training.yaml").write_text("stagess: {}")
    answer = t1("quickstart", *training_fields)
    assert answer.code == 2
    assert "did you mean 'stages'" in answer.err
