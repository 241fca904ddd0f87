"""A benchmark from data to table: finished tasks are kept, and the others are evaluated."""

import json
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.evaluate.benchmark_table import (
    BenchmarkScores,
    benchmark_as_markdown,
    benchmark_results_as_json,
)
from t1_jax.evaluate.config import EvaluationConfig
from t1_jax.evaluate.protocol import scorable_queries
from t1_jax.evaluate.results import Evaluation
from t1_jax.evaluate.task_folder import TaskScores, check_settings, main_row, read_task, write_task
from t1_jax.files import check_new_folder, read_text, write_atomically
from t1_jax.progress import counted, duration_text
from t1_jax.retrieval import Collection, Query, require_backend
from t1_jax.retrieval.benchmarks import Benchmark, BenchmarkData
from t1_jax.retriever import digest

DEPTH = 1000
"""BRIGHT and mteb score rankings of this length."""

_MARKER = "benchmark.json"


@dataclass(frozen=True, kw_only=True, eq=False)
class TaskEvaluation:
    """The evaluation of one task.

    Attributes:
        evaluation: its results.
        notes: further lines for the table.
        model_meta: the model, see `mteb_model_meta`; None without one.
    """

    evaluation: Evaluation
    notes: tuple[str, ...] = ()
    model_meta: Mapping[str, Any] | None = None


@runtime_checkable
class BenchmarkSystem(Protocol):
    """What is evaluated: a model, or the run files of another system."""

    @property
    def title(self) -> Mapping[str, str]:
        """What the title of the table says about it."""
        ...

    def check(self, task: str, queries: Sequence[Query]) -> None:
        """Rejects, before anything is computed, what would fail later."""
        ...

    def settings(self, task: str) -> Mapping[str, Any]:
        """Settings, as JSON values, that a finished task must have had to be kept."""
        ...

    def evaluate(self, task: str, collection: Collection) -> TaskEvaluation:
        """The results on a task."""
        ...


def benchmark_config(config: EvaluationConfig, benchmark: Benchmark) -> EvaluationConfig:
    """The config with the metric of the benchmark.

    Raises:
        ConfigError: it chooses an instruction, which the benchmark does, or its rankings are too
            short.
    """
    if config.task is not None or config.instruction is not None:
        raise ConfigError(
            "a benchmark chooses the instruction of each task",
            hint="leave out task and instruction; --instructions names a set of them",
        )
    if config.top_k < DEPTH:
        raise ConfigError(
            f"top_k is {config.top_k}, and the files of a benchmark have rankings of {DEPTH} "
            "documents",
            hint=f"set top_k={DEPTH}",
        )
    if benchmark.metric in config.metrics:
        return config
    return replace(config, metrics=(*config.metrics, benchmark.metric))


class BenchmarkRun:
    """The tasks of a benchmark in one folder; see `write_task` for that of a task.

    ```
    benchmark.json      the name of the benchmark
    results.json        means and intervals of all tasks; `read_scored_run` reads it
    table.md            the table
    mteb/               result files as in mteb's repository of results
    <benchmark>-<task>/
    ```
    """

    def __init__(
        self,
        data: BenchmarkData,
        system: BenchmarkSystem,
        output: Path,
        config: EvaluationConfig,
        *,
        tasks: Sequence[str] = (),
        log: Callable[[str], None] = lambda line: None,
    ) -> None:
        """Names the parts; nothing is read or written.

        Args:
            data: reads the tasks.
            system: what is evaluated.
            output: folder to write, or to go on in.
            config: settings, see `benchmark_config`.
            tasks: the tasks to evaluate; all without names.
            log: receives one line before each step.

        Raises:
            ConfigError: an unknown task.
        """
        self.data, self.system, self.output, self.config = data, system, output, config
        self.benchmark = data.benchmark
        self.tasks = self.benchmark.select(tasks)
        self._log = log
        self._hashes: dict[str, Mapping[str, str]] = {}

    def check(self) -> None:
        """Checks output, data and system before anything is computed.

        Raises:
            T1Error: the output is a folder of something else, or of another benchmark.
            DataError: data are missing or malformed.
            ConfigError: settings that do not fit the queries.
            UnsupportedError: the index's back end is not installed.
        """
        self._check_output()
        require_backend(self.config.index)
        if not self.data.revisions:
            self._log(f"{self.data.folder}: the revision is unknown; hashes are recorded")
        for task in self.tasks:
            self.data.files(task)
            self.system.check(task, self.data.queries(task))

    def finished(self, *, without: Sequence[str] = ()) -> dict[str, TaskScores]:
        """All finished tasks in the output, but some.

        Raises:
            T1Error: one was evaluated with other settings; names them.
            DataError: one is damaged.
        """
        found = {}
        for task in self.benchmark.tasks:
            folder = self._folder(task)
            if task in without or not folder.exists():
                continue
            scores = read_task(folder, task, self.benchmark.metric)
            settings = self._settings(task)
            if task not in self.tasks:  # its data were not asked for, and need not be here
                unknown = ("files", "queries", "run")
                settings |= {key: scores.settings[key] for key in unknown if key in settings}
            check_settings(folder, scores, settings)
            found[task] = scores
        return found

    def evaluate(self, tasks: Sequence[str]) -> None:
        """Evaluates tasks and writes each; documents that tasks share are read once.

        Raises:
            DataError: data are malformed, or an embedding is not finite.
            T1Error: the write failed.
        """
        content = {"name": self.benchmark.name, "hash": self.benchmark.hash}
        write_atomically(self.output / _MARKER, json.dumps(content, indent=2) + "\n")
        documents, corpus = None, None
        for task in tasks:
            if (wanted := self.benchmark.corpus_of(task)) != corpus:
                documents = None  # the memory of the last corpus
                documents, corpus = self.data.documents(task), wanted
            self._evaluate_task(task, self.data.collection(task, documents))

    def summarize(self, finished: Mapping[str, TaskScores]) -> BenchmarkScores:
        """Writes results and table over all finished tasks, and the result files of mteb."""
        data = ", ".join(f"{name}@{commit[:7]}" for name, commit in self.data.revisions.items())
        scores = BenchmarkScores(
            benchmark=self.benchmark,
            tasks=list(finished.values()),
            settings={
                "data": data or "local files of unknown revision",
                "queries": self.data.queries_name,
                **self.system.title,
            },
            bootstrap_samples=self.config.bootstrap_samples,
            bootstrap_seed=self.config.bootstrap_seed,
        )
        results = benchmark_results_as_json(scores)
        text = json.dumps(results, indent=2, ensure_ascii=False, allow_nan=False)
        write_atomically(self.output / "results.json", text + "\n")
        write_atomically(self.output / "table.md", benchmark_as_markdown(scores))
        for task, found in finished.items():
            if found.is_complete:
                self._copy_for_mteb(self._folder(task), self.benchmark.tasks[task].mteb)
        return scores

    def _evaluate_task(self, task: str, collection: Collection) -> None:
        start = time.perf_counter()
        for flaw, count in collection.notes.items():
            self._log(f"{collection.name}: {counted(count, flaw)}")
        result = self.system.evaluate(task, collection)
        everything = scorable_queries(collection, replace(self.config, max_queries=0))
        write_task(
            self._folder(task),
            result.evaluation,
            self.benchmark,
            task,
            settings=self._settings(task),
            scorable=len(everything.queries),
            notes=result.notes,
            model_meta=result.model_meta,
        )
        row, queries = main_row(result.evaluation), len(result.evaluation.query_ids)
        mean = result.evaluation.intervals[row.name][self.benchmark.metric].mean
        taken = duration_text(time.perf_counter() - start)
        self._log(
            f"{task}: {self.benchmark.metric} {mean:.3f} ({row.label}, "
            f"{counted(queries, 'queries')}, {taken})"
        )

    def _settings(self, task: str) -> dict[str, Any]:
        rewriting = self.data.rewriting
        return {
            "benchmark": self.benchmark.name,
            "task": {"name": task, "gold": self.benchmark.gold},
            "queries": {
                "name": self.data.queries_name,
                "hash": None if rewriting is None else digest(rewriting.texts.get(task)),
            },
            "strip_documents": self.data.strip_documents,
            "lenient": self.data.lenient,
            **self.system.settings(task),
            "files": self._file_hashes(task),
        }

    def _file_hashes(self, task: str) -> Mapping[str, str]:
        if task not in self.tasks:
            return {}
        if task not in self._hashes:
            self._hashes[task] = self.data.file_hashes(task)
        return self._hashes[task]

    def _folder(self, task: str) -> Path:
        return self.output / f"{self.benchmark.name}-{task}"

    def _check_output(self) -> None:
        """Raises unless the folder is new, or that of the same benchmark."""
        marker = self.output / _MARKER
        if not marker.is_file():
            check_new_folder(self.output, overwrite=False)
            return
        try:
            name = json.loads(read_text(marker))["name"]
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{marker} is damaged: {error!r}", hint="choose another folder"
            ) from error
        if name != self.benchmark.name:
            raise T1Error(
                f"{self.output} has results of {name}, not of {self.benchmark.name}",
                hint="choose another folder",
            )

    def _copy_for_mteb(self, folder: Path, name: str | None) -> None:
        """Copies the result of a task to the layout of mteb's repository of results."""
        if name is None or not (meta := folder / "model_meta.json").is_file():
            return
        fields = json.loads(read_text(meta))
        target = self.output / "mteb" / fields["name"].replace("/", "__") / fields["revision"]
        target.mkdir(parents=True, exist_ok=True)
        for path in (meta, folder / f"{name}.json"):
            shutil.copyfile(path, target / path.name)
