"""`t1 bench`: runs the benchmarks of the repository."""

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
    rounds: Annotated[
        int, typer.Option(help="Measured rounds, after one warm-up round.", min=1)
    ] = 5,
    output: Annotated[Path, typer.Option("--output", "-o", help="Folder to write.")] = Path(
        "runs/bench"
    ),
    only: Annotated[
        str, typer.Option(help="Only tasks whose name contains one of these, as in encode,think.")
    ] = "",
    torch_python: Annotated[
        str | None, typer.Option(help="A Python with PyTorch, to compare with.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Measure the speed of encoding and thinking, and compare it with PyTorch.

    Both run alternately on the same weights and tokens. Writes bench.md and bench.json.

    Example: t1 bench --torch-python .venv311/bin/python
    """
    root = Path(t1_jax.__file__).parent.parent
    if not (root / "benchmarks" / "__main__.py").exists():
        raise T1Error(
            "the benchmarks are in the repository, not in the installed package",
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
    Output(as_json).result(output=output, results=results)
