"""`t1 train --data`: a file of pairs becomes a trained model and a comparison."""

import json
from pathlib import Path

import pytest
import yaml

from t1_jax.config import load_config
from t1_jax.retrieval import Collection, Query, save_collection
from t1_jax.text import T1Tokenizer
from t1_jax.train import TrainConfig, TrainResult
from t1_jax.train.data import read_pairs
from tests.cli.machine import use_known_machine
from tests.train.toy_runs import ANIMALS, ASKED, S1, S3, merged, toy_fields, write_model

NO_THOUGHT = {"sample_thoughts": False, "contrast_reference_thoughts": False}
PATTERNS = (*(text for texts in ASKED.values() for text in texts), "Has anyone a {}?")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    return write_model(tmp_path_factory.mktemp("toys") / "model", tiny_tokenizer)


@pytest.fixture
def pairs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file in an empty folder, which is the current one; one device."""
    use_known_machine(monkeypatch)
    monkeypatch.chdir(tmp_path)
    rows = [
        {"anchor": text.format(name), "positive": f"The animal is a {name}, which we call {name}."}
        for text in PATTERNS
        for name in ANIMALS
    ]
    path = tmp_path / "zoo.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture
def toy_recipe(tmp_path: Path) -> Path:
    """A config whose programs other tests compile, too."""
    stages = {"s1": merged(S1, {"steps": 1}), "s3": merged(S3, {"steps": 1})}
    fields = toy_fields(tmp_path, stages, output="elsewhere")
    fields["model"]["path"] = "replaced"
    path = tmp_path / "toy.yaml"
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def test_the_plan_says_what_will_be_done_and_writes_nothing(t1, pairs, model):
    answer = t1("train", "--data", pairs, "-m", model, "--minutes", 5, "--plan")
    assert answer.code == 0, answer.err
    words = " ".join(answer.out.split())
    assert "48 queries, 8 documents: 36 queries to train on, 5 for validation, 7 for test" in words
    assert "thoughts written for 36 queries, such as: " in words
    assert "M parameters (LoRA) on 1 x cpu" in words
    assert "training takes about" in words
    assert not (pairs.parent / "runs").exists()


def test_the_training_split_of_a_collection_is_data(t1, pairs, model):
    """A training query that its test split has is not trained on."""
    read = read_pairs([pairs])
    train = Collection(
        name="zoo",
        documents=read.documents,
        queries=tuple(Query(id=item.query_id, text=item.query) for item in read.records),
        qrels={item.query_id: item.positives for item in read.records},
    )
    test = train.with_queries([train.queries[0].id])
    save_collection({"train": train, "test": test}, pairs.parent / "zoo")
    answer = t1("train", "--data", pairs.parent / "zoo", "-m", model, "--minutes", 5, "--plan")
    assert answer.code == 0, answer.err
    words = " ".join(answer.out.split())
    assert "removed: 1 query of held-out splits" in words
    assert "47 queries, 8 documents: " in words
    answer = t1("train", "--data", pairs.parent / "zoo", "--data", pairs, "--plan")
    assert answer.code == 2
    assert "training data by itself" in answer.err


def test_pairs_become_a_model_that_is_compared_with_the_one_before(t1, pairs, model, toy_recipe):
    answer = t1("train", toy_recipe, "--data", pairs, "-m", model, "validate_first=true", "--json")
    assert answer.code == 0, answer.err
    folder = pairs.parent / "runs" / "zoo"
    result = answer.json
    assert result["queries"] == {"train": 36, "validation": 5, "test": 7}
    assert Path(result["weights"]) == folder.relative_to(pairs.parent) / "train" / "best"
    (evaluation,) = result["collections"]
    systems = {row["system"] for row in evaluation["rows"] if row["system"]}
    assert systems == {"before", "after"}
    assert "zoo/test: after minus before, own thought, nDCG@10" in answer.err
    assert (folder / "evaluation" / "report.html").exists()
    records = (folder / "records.jsonl").read_text().splitlines()
    assert all(json.loads(line)["thought"] for line in records)


def test_the_chosen_recipe_can_be_edited_and_is_used_again(t1, pairs, model, monkeypatch):
    configs: list[TrainConfig] = []

    def stopped(config: TrainConfig, **_: object) -> TrainResult:
        configs.append(config)
        return TrainResult(
            folder=config.output, steps=0, stopped="by a test", best=None, validations={}
        )

    monkeypatch.setattr("t1_jax.train.train", stopped)
    command = ("train", "--data", pairs, "-m", model, "--minutes", 1)
    first = t1(*command)
    assert first.code == 75, first.err
    file = pairs.parent / "runs/zoo/recipe.yaml"
    config = load_config(TrainConfig, file)
    assert list(config.stages) == ["s1", "s2", "s3"]
    assert config.model.path == str(model)
    file.write_text(file.read_text().replace("batch_size: 32", "batch_size: 31"))
    again = t1(*command)
    assert "runs/zoo/recipe.yaml, written by an earlier start" in again.out
    assert configs[-1].stages["s1"].data.batch_size == 31
    other_model = t1(*command[:-4], "-m", "smollm2-135m-instruct")
    assert other_model.code == 2
    assert f"was started with the model {model}" in " ".join(other_model.err.split())
    pairs.write_text("\n".join(pairs.read_text().splitlines()[1:]) + "\n")
    other = t1(*command)
    assert other.code == 2
    assert "prepared from other data" in other.err
    assert "--overwrite" in other.err
    assert t1(*command, "--overwrite").code == 75


def test_a_teacher_writes_the_thoughts_and_a_template_what_it_did_not(
    t1, pairs, model, monkeypatch
):
    def asked(data, url, teacher, *_):
        assert (url, teacher) == ("http://host/v1", "qwen")
        return {record.query_id: ["A taught thought."] for record in data.records[1:]}

    def stopped(config: TrainConfig, **_: object) -> TrainResult:
        return TrainResult(
            folder=config.output, steps=0, stopped="by a test", best=None, validations={}
        )

    monkeypatch.setattr("t1_jax.cli.thoughts.ask_endpoint", asked)
    monkeypatch.setattr("t1_jax.train.train", stopped)
    answer = t1(
        "train", "--data", pairs, "-m", model, "--minutes", 1, "--endpoint", "http://host/v1",
        "--teacher", "qwen",
    )  # fmt: skip
    assert "35 thoughts written by qwen" in answer.out
    lines = (pairs.parent / "runs/zoo/records.jsonl").read_text().splitlines()
    thoughts = [json.loads(line)["thought"] for line in lines]
    assert thoughts.count("A taught thought.") == 35
    assert thoughts[0].startswith("The animal is a")


def test_without_validation_all_pairs_are_trained_on(t1, pairs, model, toy_recipe):
    answer = t1(
        "train", toy_recipe, "--data", pairs, "-m", model, "--no-validation", "run=[s1]", "--json"
    )
    assert answer.code == 0, answer.err
    assert answer.json["queries"] == {"train": 48}
    assert answer.json["weights"].endswith("stages/s1")
    assert "collections" not in answer.json


@pytest.mark.parametrize(
    ("arguments", "message", "hint"),
    [
        (("--minutes", 5), "--minutes needs --data", "--data pairs.jsonl"),
        (("--data", "zoo.jsonl", "--teacher", "x"), "belong together", "--endpoint http://"),
        (("-m", "x"), "--model needs --data", "model.path=NAME"),
        ((), "neither data nor a config", "t1 train --data pairs.jsonl"),
        (("--data", "nowhere.jsonl"), "nowhere.jsonl cannot be read", None),
        (("--data", "zoo.jsonl", "--corpus", "nowhere.jsonl"), "does not exist", "check the path"),
        (("--data", "zoo.jsonl", "-m", "nowhere"), "nowhere", None),
    ],
)
def test_bad_input_is_a_message(t1, pairs, arguments, message, hint):
    answer = t1("train", *arguments)
    assert answer.code == 2
    assert message in answer.err
    assert hint is None or hint in answer.err
    assert not (pairs.parent / "runs").exists()
