"""`t1 bench`: what is measured stands in benchmarks/, not in the package."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

import t1_jax
from t1_jax.cli.options import AsJson
from t1_jax.cli.output import Output
from t1_jax.errors import T1Error


def bench(
    rounds: Annotated[int, typer.Option(help="Measured rounds, after one to warm up.", min=1)] = 5,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "runs/bench"
    ),
    only: Annotated[str, typer.Option(help="Tasks whose name holds one of these: a,b,c")] = "",
    torch_python: Annotated[
        str | None, typer.Option(help="A Python that has PyTorch, to be compared with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure encoding and thinking, beside PyTorch where it is installed.

    Both sides run in turn, on the same weights and the same tokens. Writes bench.md and bench.json.

    Example: t1 bench --torch-python .venv311/bin/python
    """
    root = Path(t1_jax.__file__).parent.parent
    if not (root / "benchmarks" / "__main__.py").exists():
        raise T1Error(
            "the benchmarks are part of the repository, and this t1_jax is installed without it",
            hint="clone the repository and run `make bench` there",
        )
    command = [sys.executable, "-m", "benchmarks", "--rounds", str(rounds)]
    command += ["--output", str(output.resolve()), "--only", only]
    if torch_python is not None:
        command += ["--torch-python", torch_python]
    code = subprocess.run(command, cwd=root, stdout=sys.stderr, check=False).returncode
    if code:
        raise typer.Exit(code)
    results = json.loads((output / "bench.json").read_text(encoding="utf-8"))
    Output(as_json).result({"output": output, "results": results})
