"""`python -m benchmarks`: measure, print the table, and write it to a folder."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.protocol import Worker
from benchmarks.workload import Task, tasks
from t1_jax.files import atomic_folder, write_atomically
from t1_jax.hub import cache_folder, pull_model
from t1_jax.retrieval.datasets import build_dataset, dataset_source
from t1_jax.retriever import T1

DTYPES = ("float32", "bfloat16")


@dataclass
class Measured:
    """What one worker did on one task.

    Attributes:
        seconds: of each round, the first (which compiles) left out.
        compile_seconds: of the first round.
        compilations: of the first round.
        later_compilations: of all other rounds; shapes are bucketed, so none is expected.
        peak_mib: peak resident memory of the worker so far.
    """

    seconds: list[float] = field(default_factory=list)
    compile_seconds: float = 0.0
    compilations: int = 0
    later_compilations: int = 0
    peak_mib: float = 0.0

    def rate(self, units: int) -> float:
        """Median units per second."""
        return units / statistics.median(self.seconds)

    def spread(self, units: int) -> tuple[float, float]:
        """Slowest and fastest round, in units per second."""
        return units / max(self.seconds), units / min(self.seconds)


def main() -> int:
    """Runs the benchmark; see `--help`."""
    arguments = _parse()
    console = Console(stderr=True)
    source = pull_model("smollm2-135m-instruct")
    collection = _collection()
    folder = cache_folder() / "bench" / "smollm2-135m-float32"
    if not (folder / "config.json").exists():
        T1.load(source, dtype="float32").save_pretrained(folder)
    model = T1.load(folder)
    work = tasks(model, collection)
    commands = {
        f"t1_jax {dtype}": [sys.executable, "-m", "benchmarks.worker_t1", str(folder), dtype]
        for dtype in DTYPES
    }
    peer = _torch_python(arguments.torch_python)
    if peer is None:
        console.print("no Python with PyTorch found: measuring t1_jax alone (see --torch-python)")
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
