"""A benchmark as data: its tasks, where they come from, its metric and its means."""

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Literal, TypeAlias

from t1_jax.config import load_config, suggestion
from t1_jax.errors import ConfigError
from t1_jax.files import RESOURCES
from t1_jax.retrieval.metrics import score_run

Layout: TypeAlias = Literal["bright", "beir", "beir-parquet"]

_FOLDER = RESOURCES / "benchmarks"
_FILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


@dataclass(frozen=True, kw_only=True)
class BenchmarkTask:
    """One task of a benchmark.

    Attributes:
        dataset: repository on the Hugging Face hub, if the task has one of its own.
        corpus: the task whose documents it shares; by default, and in the layout `beir`, it has
            its own.
        split: split of its qrels; unused in the layout `bright`.
        instruction: name of its instruction in prompt presets and instruction sets; by default the
            name of the task.
        queries: number of its queries, which is checked; 0 if unknown.
        qrels: number of its relevance labels, which is checked; 0 if unknown.
        mteb: its name in mteb, if it has one.
    """

    dataset: str | None = None
    corpus: str | None = None
    split: str = "test"
    instruction: str | None = None
    queries: int = 0
    qrels: int = 0
    mteb: str | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkMean:
    """A mean over some tasks of a benchmark.

    Attributes:
        tasks: its tasks; empty for all.
        without: tasks that are left out.
    """

    tasks: tuple[str, ...] = ()
    without: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """Tasks that are evaluated together and summarized in one table.

    Attributes:
        name: name on the command line and in files.
        title: name in tables.
        layout: `bright` is the Parquet files of xlangai/BRIGHT; `beir` is a folder per task with
            `corpus.jsonl`; `beir-parquet` is a folder per task with `corpus`, `queries` and `qrels`
            as Parquet.
        tasks: the tasks by name, in the order of the table.
        dataset: repository on the Hugging Face hub; None for data that is not there, or where tasks
            have their own.
        revision: commit of the repository; None takes the newest one.
        rejected_revisions: commit -> why its scores mislead.
        documents: folder of the documents (layout `bright`).
        gold: field with the ids of relevant documents (layout `bright`).
        metric: the metric of the table.
        means: further means by name; the mean of all tasks is always there.
        instructions: instruction set, or `t1` for the instructions of the model's own prompts.
        lenient: whether the flaws that `--lenient` accepts are accepted: those of published data.
        mteb_split: split in the result files of mteb.
    """

    name: str
    title: str
    layout: Layout
    tasks: dict[str, BenchmarkTask]
    dataset: str | None = None
    revision: str | None = None
    rejected_revisions: dict[str, str] = field(default_factory=dict)
    documents: str = "documents"
    gold: str = "gold_ids"
    metric: str = "nDCG@10"
    means: dict[str, BenchmarkMean] = field(default_factory=dict)
    instructions: str = "t1"
    lenient: bool = False
    mteb_split: str = "test"

    def __post_init__(self) -> None:
        if not self.tasks:
            raise ConfigError("a benchmark needs at least one task")
        for name in (self.name, *self.tasks):
            if not _FILE_NAME.fullmatch(name):
                raise ConfigError(
                    f"{name!r} cannot name a folder: letters, digits, '.', '_', '-' only"
                )
        for name, task in self.tasks.items():
            if task.corpus is not None:
                self._check_known(task.corpus, f"tasks.{name}.corpus")
                if self.layout == "beir":
                    raise ConfigError(
                        f"tasks.{name}.corpus: a folder in the layout beir has its own documents",
                        hint="leave it out",
                    )
        for name, mean in self.means.items():
            for member in (*mean.tasks, *mean.without):
                self._check_known(member, f"means.{name}")
            if not self.members(name):
                raise ConfigError(f"means.{name} has no task")
        for rejected, reason in self.rejected_revisions.items():
            if self.revision and rejected.startswith(self.revision):
                raise ConfigError(
                    f"revision {self.revision} of {self.dataset} is rejected: {reason}",
                    hint="leave out `revision`, or name another one",
                )
        score_run({}, {"query": {"document": 1}}, metrics=[self.metric])  # rejects unknown names

    def _check_known(self, task: str, key: str) -> None:
        if task not in self.tasks:
            raise ConfigError(
                f"{key}: there is no task {task!r}", hint=suggestion(task, self.tasks)
            )

    @property
    def hash(self) -> str:
        """Hex SHA-256 of all fields; independent of the file."""
        return hashlib.sha256(json.dumps(asdict(self), sort_keys=True).encode()).hexdigest()

    def select(self, names: Sequence[str]) -> tuple[str, ...]:
        """The named tasks in the order of the table; all without names.

        Raises:
            ConfigError: an unknown task.
        """
        for name in names:
            self._check_known(name, self.name)
        return tuple(task for task in self.tasks if not names or task in names)

    def members(self, mean: str) -> tuple[str, ...]:
        """The tasks of one of the `means`, in the order of the table."""
        of = self.means[mean]
        return tuple(
            task
            for task in self.tasks
            if task not in of.without and (not of.tasks or task in of.tasks)
        )

    def corpus_of(self, task: str) -> str:
        """The task whose documents are those of this task."""
        return self.tasks[task].corpus or task

    def instruction_of(self, task: str) -> str:
        """Name of the task's instruction."""
        return self.tasks[task].instruction or task


def benchmark_names() -> list[str]:
    """Names of the benchmarks in this package, sorted."""
    return sorted(path.stem for path in _FOLDER.glob("*.yaml"))


def load_benchmark(name_or_path: str | Path) -> Benchmark:
    """A benchmark of this package by name, or any benchmark by the path of its YAML file.

    The key `extends` of a file names a benchmark of this package, or another file; tasks that it
    lists are added or changed.

    Raises:
        ConfigError: unknown name, the file is not a benchmark, or it changes a benchmark of this
            package without another name.
    """
    shipped = {name: _FOLDER / f"{name}.yaml" for name in benchmark_names()}
    if str(name_or_path) in shipped:
        return load_config(Benchmark, shipped[str(name_or_path)], shipped=shipped)
    if Path(name_or_path).suffix in (".yaml", ".yml"):
        benchmark = load_config(Benchmark, Path(name_or_path), shipped=shipped)
        name = benchmark.name
        if name in shipped and benchmark.hash != load_benchmark(name).hash:
            raise ConfigError(
                f"{name_or_path} differs from the benchmark {name!r} and has its name",
                hint="give it a name of its own, as in name: my-benchmark",
            )
        return benchmark
    raise ConfigError(
        f"unknown benchmark {str(name_or_path)!r}; known are {', '.join(shipped)}",
        hint=f"{suggestion(str(name_or_path), shipped)} A path must end in .yaml.",
    )
