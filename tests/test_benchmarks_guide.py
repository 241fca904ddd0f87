"""The commands of docs/benchmarks.md work as typed, on BRIGHT-shaped data and a tiny model."""

import json
import re
import shlex
from pathlib import Path

import pytest
from typer.testing import CliRunner

from t1_jax.cli.main import app
from t1_jax.evaluate import EvaluationConfig
from t1_jax.retrieval import save_collection
from t1_jax.retrieval.benchmarks import BenchmarkData, benchmark_names, load_benchmark
from t1_jax.text import T1Tokenizer, instruction_set_names, load_instructions
from tests.cli.command_line import parse
from tests.retrieval.benchmarks.bright_files import TINY, write_bright
from tests.train.toy_runs import write_model

PAGE = (Path(__file__).parent.parent / "docs" / "benchmarks.md").read_text(encoding="utf-8")
LINES = [line.split("  #")[0].strip() for line in PAGE.splitlines() if line.startswith("t1 ")]
FAST = ["max_thought_tokens=2", "bootstrap_samples=9", "--dtype", "float32", "-m", "tiny"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    """What the page supposes to be there."""
    folder = tmp_path_factory.mktemp("guide")
    write_model(folder / "tiny", tiny_tokenizer)
    write_bright(folder / "bright")
    rewritten = [{"id": name, "query": "oooo"} for name in "01"]
    (folder / "mine.json").write_text(json.dumps(rewritten))
    (support,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.S)
    (folder / "support.yaml").write_text(support)
    (folder / "tiny.yaml").write_text(TINY)
    data = BenchmarkData(benchmark=load_benchmark(folder / "tiny.yaml"), folder=folder / "bright")
    for task in ("bugs", "manuals"):
        save_collection({"test": data.collection("biology")}, folder / "collections" / task)
    return folder


@pytest.mark.parametrize("line", LINES)
def test_a_command_works_as_typed(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("T1_CACHE", str(folder / "cache"))
    # The data have a few queries each instead of BRIGHT's.
    monkeypatch.setattr(BenchmarkData, "_check_count", lambda *_: None)
    words = shlex.split(line)[1:]
    if words[0] == "pull" or "--data" not in words:
        parse(words)
        return
    fast = FAST if "--run" not in words else FAST[:2]
    done = CliRunner().invoke(app, [*words, *fast], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr


def test_the_tables_name_everything_that_is_shipped():
    assert all(f"`{name}`" in PAGE for name in [*benchmark_names(), *instruction_set_names()])
    for name in instruction_set_names():
        instruction = load_instructions(name).instructions["biology"]
        assert f"| `{name}` | `{instruction}` |" in PAGE


def test_help_names_everything_that_is_shipped():
    shown = CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "300"}).stdout
    assert all(name in shown for name in [*benchmark_names(), *instruction_set_names()])
    assert EvaluationConfig().top_k < 1000  # so the recipe of benchmarks is needed
