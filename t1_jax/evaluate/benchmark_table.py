"""The table of a benchmark: tasks and means as rows, retrievers and controls as columns."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from t1_jax.evaluate.bootstrap import Interval, intervals, intervals_of_task_means
from t1_jax.evaluate.environment import hardware, package_versions
from t1_jax.evaluate.table import escape_markdown, format_interval
from t1_jax.evaluate.task_folder import TaskScores
from t1_jax.evaluate.write import FORMAT_VERSION
from t1_jax.progress import counted
from t1_jax.retrieval.benchmarks import Benchmark

MEAN = "mean"
"""Name of the mean over all tasks."""

_LEGEND = (
    "[low, high]: 95 % bootstrap interval over queries. A mean gives every task the same weight, "
    "and its interval resamples the queries of each task."
)


@dataclass(frozen=True, kw_only=True)
class TaskMean:
    """A mean over tasks, or why there is none.

    Attributes:
        rows: name of the row -> unweighted mean of the tasks; empty without a mean.
        refusal: why there is none; None if there is one.
    """

    rows: Mapping[str, Interval]
    refusal: str | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class BenchmarkScores:
    """The finished tasks of a benchmark, with means and intervals.

    Attributes:
        benchmark: the benchmark.
        tasks: the finished tasks, in the order of the table.
        settings: what the title says: the data, queries, prompts and instructions.
        bootstrap_samples: number of resamples.
        bootstrap_seed: seed of the resamples.
    """

    benchmark: Benchmark
    tasks: Sequence[TaskScores]
    settings: Mapping[str, str]
    bootstrap_samples: int = 10_000
    bootstrap_seed: int = 0

    @property
    def title(self) -> str:
        """Benchmark and metric, then the settings: `BRIGHT, nDCG@10; queries: original; ...`."""
        settings = "; ".join(f"{name}: {value}" for name, value in self.settings.items())
        return f"{self.benchmark.title}, {self.benchmark.metric}; {settings}"

    @cached_property
    def labels(self) -> Mapping[str, str]:
        """Name -> label of every row of the evaluations, in order of first appearance."""
        return {name: row.label for task in self.tasks for name, row in task.rows.items()}

    @cached_property
    def task_intervals(self) -> Mapping[str, Mapping[str, Interval]]:
        """Task -> name of the row -> mean over the evaluated queries, and its interval."""
        table = {}
        for task in self.tasks:
            values = np.stack([row.values for row in task.rows.values()], axis=1)
            found = intervals(values, samples=self.bootstrap_samples, seed=self.bootstrap_seed)
            table[task.task] = dict(zip(task.rows, found, strict=True))
        return table

    @cached_property
    def means(self) -> Mapping[str, TaskMean]:
        """Name -> mean. A mean needs every query of every one of its tasks."""
        groups = {MEAN: tuple(self.benchmark.tasks)}
        groups |= {name: self.benchmark.members(name) for name in self.benchmark.means}
        return {name: self._mean(members) for name, members in groups.items()}

    def _mean(self, members: Sequence[str]) -> TaskMean:
        finished = {task.task: task for task in self.tasks}
        if missing := [name for name in members if name not in finished]:
            reason = f"{len(missing)} of {counted(len(members), 'tasks')} not evaluated"
            return TaskMean(rows={}, refusal=reason)
        tasks = [finished[name] for name in members]
        if partial := [task for task in tasks if not task.is_complete]:
            first, others = partial[0], len(partial) - 1
            reason = f"{first.task} has scores of {first.queries} of {first.scorable} queries"
            if others:
                reason += f", and {counted(others, 'more tasks')} of a part too"
            return TaskMean(rows={}, refusal=reason)
        rows = [name for name in self.labels if all(name in task.rows for task in tasks)]
        columns = [np.stack([task.rows[name].values for name in rows], axis=1) for task in tasks]
        found = intervals_of_task_means(
            columns, samples=self.bootstrap_samples, seed=self.bootstrap_seed
        )
        return TaskMean(rows=dict(zip(rows, found, strict=True)))

    def notes(self) -> Iterator[str]:
        """Tasks without all queries, missing means with their reason, and notes of the tasks."""
        for task in self.tasks:
            if not task.is_complete:
                yield f"{task.task}: only {task.queries} of {task.scorable} queries."
        for name, mean in self.means.items():
            if mean.refusal is not None:
                yield f"No {name_of_mean(name)}: {mean.refusal}."
        for task in self.tasks:
            yield from task.notes

    def as_json(self) -> dict[str, Any]:
        """Settings, means and tasks as JSON values."""
        return {
            "name": self.benchmark.name,
            "title": self.benchmark.title,
            "metric": self.benchmark.metric,
            "settings": dict(self.settings),
            "means": {
                name: {row: asdict(interval) for row, interval in mean.rows.items()} or None
                for name, mean in self.means.items()
            },
            "tasks": {
                task.task: {
                    "queries": task.queries,
                    "scorable_queries": task.scorable,
                    "rows": {
                        row: asdict(interval)
                        for row, interval in self.task_intervals[task.task].items()
                    },
                }
                for task in self.tasks
            },
            "notes": list(self.notes()),
        }


def name_of_mean(name: str) -> str:
    """`mean` for the mean of all tasks, `mean without Pony` or `StackExchange mean` for others."""
    if name == MEAN:
        return MEAN
    return f"{MEAN} {name}" if name.startswith("without ") else f"{name} {MEAN}"


class BenchmarkTable:
    """The table for a terminal: columns side by side as far as they fit."""

    def __init__(self, scores: BenchmarkScores) -> None:
        self._scores = scores

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        names = list(self._scores.labels)
        whole = _table(self._scores, names)
        yield Padding(Text(self._scores.title, style="bold"), (0, 1))
        if Measurement.get(console, options.update(width=1000), whole).maximum <= options.max_width:
            yield whole
        else:
            yield from (_table(self._scores, [name]) for name in names)
        for note in self._scores.notes():
            yield Padding(Text(note, style="yellow"), (0, 1))
        yield Padding(Text(_LEGEND, style="dim"), (0, 1))


def _rows(scores: BenchmarkScores) -> Iterator[tuple[str, str, Mapping[str, Interval]]]:
    """Heading, number of queries, and the intervals of each task and mean."""
    for task in scores.tasks:
        count = str(task.queries) if task.is_complete else f"{task.queries} of {task.scorable}"
        yield task.task, count, scores.task_intervals[task.task]
    for name, mean in scores.means.items():
        yield name_of_mean(name), "", mean.rows


def _table(scores: BenchmarkScores, names: Sequence[str]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")  # long names wrap, so that numbers are whole in a narrow terminal
    table.add_column("queries", justify="right", no_wrap=True)
    for name in names:
        table.add_column(scores.labels[name], no_wrap=True)
    tasks = len(scores.tasks)
    for number, (heading, count, row) in enumerate(_rows(scores)):
        if number == tasks:
            table.add_section()
        cells = [_cell(row.get(name)) for name in names]
        table.add_row(heading, count, *cells, style="bold" if number >= tasks else "")
    return table


def _cell(interval: Interval | None) -> Text:
    if interval is None:
        return Text("–")
    text = Text(f"{interval.mean:.3f}")
    text.append(f" [{interval.low:.3f}, {interval.high:.3f}]", style="not bold dim")
    return text


def benchmark_as_markdown(scores: BenchmarkScores) -> str:
    """Title, table, notes and legend as Markdown."""
    labels = [escape_markdown(label) for label in scores.labels.values()]
    lines = [
        f"{escape_markdown(scores.title)}\n",
        "| " + " | ".join(["Task", "queries", *labels]) + " |",
        "|---|---:|" + "---:|" * len(labels),
    ]
    for heading, count, row in _rows(scores):
        cells = [
            "–" if (interval := row.get(name)) is None else format_interval(interval)
            for name in scores.labels
        ]
        lines.append("| " + " | ".join([escape_markdown(heading), count, *cells]) + " |")
    notes = [f"{escape_markdown(note)}\n" for note in scores.notes()]
    return "\n".join([*lines, "", *notes, _LEGEND, ""])


def benchmark_results_as_json(scores: BenchmarkScores) -> dict[str, Any]:
    """The content of `results.json` over all tasks; `read_scored_run` reads it too."""
    return {
        "format": FORMAT_VERSION,
        "versions": package_versions(),
        "hardware": hardware(),
        "benchmark": scores.as_json(),
        "collections": [dict(task.results) for task in scores.tasks],
    }
