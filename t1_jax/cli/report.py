"""`t1 report`: one page over several evaluations, by thinking budget and by seed."""

from pathlib import Path
from typing import Annotated

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.progress import counted


def report(
    runs: Annotated[
        list[Path], typer.Argument(metavar="RUN...", help="Folders of t1 evaluate --output.")
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="HTML page to write.")],
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write a page over several evaluations: scores by thinking budget, and spread over seeds.

    Each folder already has a page of its own with its queries, report.html.

    Example: t1 report runs/tokens-32 runs/tokens-64 runs/tokens-128 -o budgets.html
    """
    from t1_jax.evaluate import render_runs
    from t1_jax.files import check_new_file, write_atomically

    out = Output(as_json)
    check_new_file(output, overwrite=overwrite)
    write_atomically(output, render_runs(runs))
    out.print(f"page over {counted(len(runs), 'runs')}: {output.resolve()}")
    out.result(output=output, runs=len(runs))
