import sys
from pathlib import Path

import numpy as np
import pytest
import yaml

from t1_jax.cli.train import UNFINISHED
from t1_jax.config import load_config
from t1_jax.errors import T1Error
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1
from t1_jax.text import T1Tokenizer
from t1_jax.train import TrainConfig
from tests.train.toy_runs import (
    S1,
    S2,
    Recorder,
    merged,
    toy_fields,
    write_model,
    write_zoo,
    write_zoo_records,
)


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    root = tmp_path_factory.mktemp("toys")
    write_model(root / "model", tiny_tokenizer)
    write_zoo(root / "zoo")
    write_zoo_records(root / "zoo.jsonl")
    return root


@pytest.fixture
def recipe(files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two supervised stages of two steps; the run folder is the test's own."""
    one_device = single_device_mesh_context()
    monkeypatch.setattr("t1_jax.train.run.make_mesh_context", lambda mesh: one_device)
    stages = {"s1": merged(S1, {"steps": 2}), "s2": merged(S2, {"steps": 2})}
    path = tmp_path / "toy.yaml"
    fields = toy_fields(files, stages, output=str(tmp_path / "run"))
    path.write_text(yaml.safe_dump(fields, sort_keys=False))
    return path


def test_help_says_what_happens_to_a_stopped_run(t1):
    answer = t1("train", "--help")
    assert answer.code == 0
    for words in ("exit code 75", "same command", "t1 train configs/experiment/t1.yaml"):
        assert words in " ".join(answer.out.split())


def test_an_adapter_is_exported_merged(t1, recipe, tmp_path):
    answer = t1("train", recipe, "run=[s1]", "model.lora.rank=2", "model.lora.alpha=64")
    assert answer.code == 0, answer.err
    adapter, folder = tmp_path / "run/stages/s1", tmp_path / "merged"
    answer = t1("export", adapter, folder, "--dtype", "float32", "--json")
    assert answer.code == 0, answer.err
    assert not (folder / "adapter_config.json").exists()
    texts = ["The animal is a cat.", "Where is the dog?"]
    merged_one, beside = (T1.load(each, dtype="float32") for each in (folder, adapter))
    plain = T1.load(load_config(TrainConfig, recipe).model.path, dtype="float32")
    vectors = beside.encode_document(texts)
    np.testing.assert_allclose(merged_one.encode_document(texts), vectors, atol=1e-5)
    assert np.abs(plain.encode_document(texts) - vectors).max() > 1e-3


def test_a_run_for_a_machine_to_read(t1, recipe, tmp_path):
    answer = t1("train", recipe, "stages.s1.steps=1", "--json")
    assert answer.code == 0, answer.err
    result = answer.json
    assert result["output"] == str(tmp_path / "run")
    assert (result["steps"], result["stopped"]) == (3, None)
    assert set(result["validations"]) == {"s1", "s2"}
    assert result["best"]["step"] in (1, 3)
    assert result["best"]["ndcg@10"] == max(
        values["validation/ndcg@10"] for values in result["validations"].values()
    )
    assert "on zoo (24 queries)" in answer.err


def test_a_stopped_run_goes_on_by_the_same_command(t1, recipe, tmp_path, monkeypatch):
    recorder = Recorder(monkeypatch)
    recorder.stop_after = 3
    stopped = t1("train", recipe)
    assert stopped.code == UNFINISHED == 75
    assert "stopped after 3 steps: SIGTERM" in stopped.out
    assert "run the same command to resume" in stopped.out
    recorder.stop_after = None
    recorder.states.clear()
    ended = t1("train", recipe)
    assert ended.code == 0, ended.err
    assert "resumed at step 3, in stage s2" in ended.err
    assert list(recorder.states) == [4]
    assert "4 steps done" in ended.out
    assert str(tmp_path / "run" / "stages") in ended.out
    assert "best validation nDCG@10" in ended.out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("stages.s1.step=3",), "stages.s1.steps"),
        (("stages.s3.steps=3",), "stages.s3.losses"),
        (("stages.s1.reward.terms.fromat=1",), "unknown reward 'fromat'"),
        (("stages.s1.policy.loss=gropo",), "unknown loss 'gropo'"),
        (("stages.s1.micro_batch.tokens=64",), "stage s1: a query: "),
        (("data.sources.zoo.collection=nowhere",), "nowhere"),
        (("model.path=nowhere",), "nowhere"),
        (("run=[s9]",), "unknown stages: s9"),
        (("tracking.wandb=sometimes",), "tracking.wandb"),
    ],
)
def test_bad_input_is_a_message(t1, recipe, tmp_path, given, named):
    answer = t1("train", recipe, *given)
    assert answer.code == 2
    assert named in " ".join(answer.err.split())
    assert "Traceback" not in answer.err
    assert not (tmp_path / "run").exists()


def test_a_reward_beside_the_config_is_found(t1, recipe, tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "reward_beside.py").write_text(
        "import numpy as np\n\ndef one(context):\n    return np.ones(context.shape)\n"
    )
    term = 'stages.s2.reward.terms={"reward_beside:one": 1}'
    answer = t1("train", recipe, term, "run=[s1]", "stages.s1.steps=1")
    assert answer.code == 0, answer.err
    unknown = t1("train", recipe, term.replace("beside:", "besides:"))
    assert unknown.code == 2
    assert "reward_besides must be beside the config" in " ".join(unknown.err.split())


def test_a_file_that_is_not_there_and_an_error_for_machines(t1, tmp_path):
    answer = t1("train", tmp_path / "nowhere.yaml", "--json")
    assert answer.code == 2
    assert answer.json["error"]["kind"] == "ConfigError"
    assert "nowhere.yaml" in answer.json["error"]["message"]


def test_a_full_disk_is_worth_another_try(t1, recipe, monkeypatch):
    def full(*_: object) -> None:
        raise T1Error("metrics.jsonl could not be written: no space", hint="free disk space")

    with monkeypatch.context() as patch:
        patch.setattr("t1_jax.train.infra.folder.RunFolder.record", full)
        answer = t1("train", recipe, "run=[s1]")
    assert answer.code == UNFINISHED
    assert "no space; the run is saved at step" in " ".join(answer.err.split())
    assert t1("train", recipe, "run=[s1]").code == 0


def test_another_config_is_refused_unless_asked_for(t1, recipe):
    assert t1("train", recipe, "run=[s1]").code == 0
    refused = t1("train", recipe, "run=[s1]", "tracking.rollouts=3")
    assert refused.code == 2
    assert "tracking.rollouts was 2, is 3" in refused.err
    assert "resume=true" in refused.err
    assert t1("train", recipe, "run=[s1]", "tracking.rollouts=3", "resume=true").code == 0
    # The seed belongs to the checkpoint, too: no asking helps, and none spoils the run.
    for asking in ((), ("resume=true",)):
        again = t1("train", recipe, "seed=3", *asking)
        assert again.code == 2
        assert "belongs to another seed: it has 0, this run has 3" in again.err
    assert t1("train", recipe, "run=[s1]", "resume=true").code == 0
