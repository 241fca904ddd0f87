"""The table of a benchmark: tasks, means with intervals, and reasons where there is no mean."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from t1_jax.evaluate import (
    BenchmarkScores,
    TaskScores,
    benchmark_as_markdown,
    benchmark_results_as_json,
    read_scored_run,
    read_task,
)
from t1_jax.files import write_atomically
from t1_jax.retrieval.benchmarks import Benchmark, BenchmarkData


@pytest.fixture
def tasks(bright_output: Path) -> list[TaskScores]:
    return [
        read_task(bright_output / f"tiny-{task}", task, "nDCG@10")
        for task in ("biology", "pony", "aops", "theoremqa_questions")
    ]


@pytest.fixture
def small(bright_data: BenchmarkData) -> Benchmark:
    """The four tasks alone, so that there are means."""
    members = ("biology", "pony", "aops", "theoremqa_questions")
    return dataclasses.replace(
        bright_data.benchmark,
        tasks={name: bright_data.benchmark.tasks[name] for name in members},
        means={
            name: mean
            for name, mean in bright_data.benchmark.means.items()
            if name == "without Pony"
        },
    )


def scores_of(benchmark: Benchmark, tasks: list[TaskScores]) -> BenchmarkScores:
    return BenchmarkScores(
        benchmark=benchmark,
        tasks=tasks,
        settings={"queries": "gpt4_reason", "instructions": "bright-paper"},
        bootstrap_samples=2000,
    )


def test_means_give_each_task_the_same_weight(small, tasks):
    scores = scores_of(small, tasks)
    of_tasks = [float(task.rows["t1-no-think"].values.mean()) for task in tasks]
    mean, without_pony = (
        scores.means[name].rows["t1-no-think"] for name in ("mean", "without Pony")
    )
    assert mean.mean == pytest.approx(np.mean(of_tasks))
    assert without_pony.mean == pytest.approx(np.mean([of_tasks[0], *of_tasks[2:]]))
    # Only biology has two queries, of 1 and 1 / log2(3): its mean varies between them.
    assert mean.low == pytest.approx((1 / np.log2(3) + 3) / 4)
    assert mean.high == pytest.approx(1)


def test_tables_say_queries_and_instructions(small, tasks):
    text = benchmark_as_markdown(scores_of(small, tasks))
    assert text.startswith(
        "Tiny, nDCG@10; queries: gpt4_reason; instructions: bright-paper\n\n| Task | queries |"
    )
    assert "| biology | 2 | 0.815 [0.631, 1.000] |" in text
    assert "| mean without Pony |  | 0.938 [0.877, 1.000] |" in text


def test_a_mean_needs_every_task_and_every_query(small, tasks):
    scores = scores_of(small, tasks[:2])
    assert scores.means["mean"].refusal == "2 of 4 tasks not evaluated"
    assert "No mean without Pony: 2 of 3 tasks not evaluated." in list(scores.notes())
    assert "| mean |  | – |" in benchmark_as_markdown(scores)
    partial = [tasks[0], tasks[1], dataclasses.replace(tasks[2], scorable=9), tasks[3]]
    scores = scores_of(small, partial)
    assert scores.means["mean"].refusal == "aops has scores of 1 of 9 queries"
    assert next(iter(scores.notes())) == "aops: only 1 of 9 queries."
    assert scores.as_json()["means"] == {"mean": None, "without Pony": None}


def test_t1_compare_reads_the_results_over_all_tasks(small, tasks, bright_output):
    results = benchmark_results_as_json(scores_of(small, tasks))
    write_atomically(bright_output / "results.json", json.dumps(results))
    run = read_scored_run(bright_output)
    assert list(run.collections) == [f"tiny-{task.task}" for task in tasks]
    assert run.collections["tiny-biology"].values["nDCG@10"].tolist() == pytest.approx(
        [1, 1 / np.log2(3)]
    )
