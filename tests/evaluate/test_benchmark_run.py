"""The run of a benchmark in Python, with a system that needs no weights."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate import (
    BenchmarkRun,
    EvaluationConfig,
    RunFileSystem,
    TaskEvaluation,
    benchmark_config,
    evaluate_collection,
)
from t1_jax.retrieval import Collection, Query
from t1_jax.retrieval.benchmarks import BenchmarkData, load_benchmark
from tests.evaluate.toy_benchmark import CONFIG, FACTS
from tests.evaluate.toys import LetterModel


@dataclasses.dataclass
class Letters:
    """A system that compares letters, and records what it is asked."""

    checked: dict[str, int] = dataclasses.field(default_factory=dict)
    evaluated: list[Collection] = dataclasses.field(default_factory=list)
    title: Mapping[str, str] = dataclasses.field(default_factory=lambda: {"model": "letters"})

    def check(self, task: str, queries: Sequence[Query]) -> None:
        self.checked[task] = len(queries)

    def settings(self, task: str) -> Mapping[str, Any]:
        return {"model": {"letters": 26}}

    def evaluate(self, task: str, collection: Collection) -> TaskEvaluation:
        self.evaluated.append(collection)
        evaluation = evaluate_collection(LetterModel(), collection, CONFIG, facts=FACTS)
        return TaskEvaluation(evaluation=evaluation)


def test_a_run_from_data_to_table(bright_data: BenchmarkData, tmp_path: Path):
    system, lines = Letters(), []
    tasks = ("aops", "theoremqa_questions")
    run = BenchmarkRun(bright_data, system, tmp_path / "o", CONFIG, tasks=tasks, log=lines.append)
    run.check()
    assert system.checked == {"aops": 1, "theoremqa_questions": 1}
    assert run.finished() == {}
    run.evaluate(tasks)
    assert system.evaluated[0].documents is system.evaluated[1].documents
    finished = run.finished()
    assert tuple(finished) == tasks
    assert run.finished(without=["aops"]).keys() == {"theoremqa_questions"}
    scores = run.summarize(finished)
    assert scores.title == (
        "Tiny, nDCG@10; data: local files of unknown revision; queries: original; model: letters"
    )
    assert "10 of 12 tasks not evaluated" in (tmp_path / "o" / "table.md").read_text()
    assert "the revision is unknown" in lines[0]
    assert lines[-1].startswith("theoremqa_questions: nDCG@10 1.000 (T1, no thought, 1 query, ")
    other = BenchmarkRun(bright_data, Letters(), tmp_path / "o", CONFIG, tasks=["pony"])
    assert tuple(other.finished()) == tasks  # their files are not asked for


def test_a_damaged_marker(bright_data: BenchmarkData, tmp_path: Path):
    (tmp_path / "benchmark.json").write_text("[]")
    with pytest.raises(DataError, match=r"benchmark\.json is damaged"):
        BenchmarkRun(bright_data, Letters(), tmp_path, CONFIG).check()


def test_configs_of_a_benchmark():
    long = load_benchmark("bright-long")
    config = EvaluationConfig(top_k=1000)
    assert benchmark_config(config, long).metrics == (*config.metrics, "recall@1")
    assert benchmark_config(config, load_benchmark("bright")) == config
    with pytest.raises(ConfigError, match="top_k is 100"):
        benchmark_config(EvaluationConfig(), long)
    with pytest.raises(ConfigError, match="chooses the instruction of each task"):
        benchmark_config(dataclasses.replace(config, instruction="Find it"), long)


def test_one_run_file_is_that_of_one_task(bright_data: BenchmarkData, tmp_path: Path):
    with pytest.raises(ConfigError, match="is the run of one task, and there are 2"):
        RunFileSystem(path="a.trec", tasks=["pony", "aops"], config=CONFIG)
    system = RunFileSystem(path=f"{tmp_path}/{{task}}.trec", tasks=["pony", "aops"], config=CONFIG)
    with pytest.raises(DataError, match=r"aops\.trec does not exist"):
        system.check("aops", [])
    (tmp_path / "aops.trec").write_text("x")
    system.check("aops", [])
    assert system.settings("aops")["run"] != system.settings("pony")["run"]
