"""The programs under examples/ run, with a tiny model in place of the default one."""

from pathlib import Path

import pytest

from examples import custom_reward, read_a_thought, search_your_files, train_a_tiny_model
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retriever import T1
from t1_jax.text import T1Tokenizer
from tests.train.toy_runs import write_model

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> str:
    return str(write_model(tmp_path_factory.mktemp("model") / "tiny", tiny_tokenizer))


@pytest.fixture(scope="module")
def loaded(folder: str) -> T1:
    """One model on one device for all examples, so that they share its compiled programs."""
    return T1.load(folder, dtype="float32", mesh_context=single_device_mesh_context())


@pytest.fixture
def model(loaded: T1, folder: str, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(T1, "load", lambda path_or_name, **options: loaded)
    return folder


def test_search_your_files(model, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("T1_CACHE", str(tmp_path / "cache"))
    notes = tmp_path / "notes"
    notes.mkdir()
    (notes / "cats.md").write_text("# Cats\n\nA cat purrs when it is content, and hunts mice.\n")
    (notes / "photo.jpg").write_bytes(b"\xff\xd8\0\0")
    search_your_files.main(str(notes), "who hunts mice?", model)
    printed = capsys.readouterr().out
    assert printed.startswith("thought: ")
    with_thought, without = printed.split("\n\nwithout a thought\n")
    assert "cats.md:3  Cats\n    A cat purrs" in with_thought
    assert "cats.md:3  Cats\n" in without
    assert "photo" not in printed


def test_read_a_thought(model, capsys):
    read_a_thought.main("what keeps bread from rising?", model)
    printed = capsys.readouterr().out
    assert printed.count("finish reason") == 3
    assert printed.count("  yeast ") + printed.count("  salt ") > 0


def test_custom_reward(model, capsys):
    custom_reward.main(model)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 8
    assert all("log_rank" in line and "new_words" in line for line in lines)


def test_train_a_tiny_model(model, tmp_path, capsys, monkeypatch):
    one_device = single_device_mesh_context()
    monkeypatch.setattr("t1_jax.train.run.make_mesh_context", lambda mesh: one_device)
    train_a_tiny_model.main(str(tmp_path), model)
    printed = capsys.readouterr().out
    for stage in ("joint", "grpo"):
        assert f"{stage}: validation nDCG@10 " in printed
    assert (tmp_path / "run" / "best" / "adapter_model.safetensors").exists()


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.name)
def test_examples_are_short(path):
    assert len(path.read_text().splitlines()) < 60
