"""`t1 compare`: two runs, query by query."""

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.evaluate import RunComparison, ScoredRun
    from t1_jax.retrieval import Collection

_QUERIES_SHOWN = 5
_RUN_HELP = "A folder that `t1 evaluate` wrote, FOLDER:ROW for another row, or a run file."


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help=_RUN_HELP)],
    second: Annotated[str, typer.Argument(metavar="B", help=_RUN_HELP)],
    collection: Annotated[
        str | None,
        typer.Option("--collection", "-c", help="The collection that run files belong to."),
    ] = None,
    split: options.Split = "test",
    metrics: Annotated[
        list[str] | None,
        typer.Option("--metric", help="Metric to compare; can be repeated. Default: the table's."),
    ] = None,
    style: Annotated[
        Literal["text", "markdown", "latex"], typer.Option("--format", help="Form of the table.")
    ] = "text",
    lenient: options.Lenient = False,
    as_json: options.AsJson = False,
) -> None:
    """Say whether two runs are comparable, and compare them query by query.

    Without a row, that of the first model's own thought is taken. Prints the paired bootstrap
    interval, the p-value of the randomization test, and the queries that B wins and loses.

    Example: t1 compare runs/before runs/after
    """
    from t1_jax.cli.inputs import open_split
    from t1_jax.evaluate import (
        HEADINGS,
        HEADLINE,
        compare_runs,
        comparison_as_latex,
        comparison_as_markdown,
        comparison_legend,
        comparison_rows,
    )

    out = Output(as_json)
    opened = None
    if collection is not None:
        opened = open_split(collection, split, out, lenient=lenient, needs_documents=False)
    runs = [_open(name, opened, split, tuple(metrics or ())) for name in (first, second)]
    result = compare_runs(runs[0], runs[1], metrics=metrics or HEADLINE)
    if style == "markdown":
        out.print(comparison_as_markdown(result))
    elif style == "latex":
        out.print(comparison_as_latex(result))
    else:
        on = ", ".join(runs[0].collections)
        out.print(f"comparable: the same documents, queries and qrels on {on}")
        _print_settings(out, result)
        titles = [name + ("" if number < 2 else ">") for number, name in enumerate(HEADINGS)]
        out.table(titles, comparison_rows(result))
        for line in comparison_legend(result):
            out.print(line)
        _print_queries(out, result)
    out.result(
        first=result.first,
        second=result.second,
        settings=result.settings,
        caveats=result.caveats,
        comparisons=[asdict(item) for item in result.comparisons],
        gains=result.gains,
    )


def _open(
    name: str, collection: "Collection | None", split: str, metrics: tuple[str, ...]
) -> "ScoredRun":
    from t1_jax.evaluate import read_scored_run

    path, row = Path(name), None
    if not path.exists() and ":" in name:
        text, _, row = name.rpartition(":")
        path = Path(text)
    if path.is_dir():
        return read_scored_run(path, row, name=name if row else None)
    if not path.is_file():
        raise ConfigError(
            f"{path} does not exist",
            hint="give a folder that `t1 evaluate --output` wrote, or a run file",
        )
    if collection is None:
        raise ConfigError(
            f"{path} is a file, and a run is scored with the qrels of a collection",
            hint="add --collection",
        )
    return _score_file(path, collection, split, metrics)


def _score_file(
    path: Path, collection: "Collection", split: str, metrics: tuple[str, ...]
) -> "ScoredRun":
    from t1_jax.evaluate import EvaluationConfig, evaluate_run_file, scored_run

    base = EvaluationConfig()
    config = EvaluationConfig(bm25=False, metrics=tuple(dict.fromkeys([*base.metrics, *metrics])))
    evaluation = evaluate_run_file(path, collection, split, config)
    return scored_run(str(path), [evaluation], evaluation.rows)


def _print_settings(out: Output, result: "RunComparison") -> None:
    if not result.settings:
        return
    out.print(f"{counted(len(result.settings), 'settings')} that differ (A, then B):", style="dim")
    for name, values in result.settings.items():
        out.print(f"  {name}: {values[0]} | {values[1]}", style="dim")


def _print_queries(out: Output, result: "RunComparison") -> None:
    from t1_jax.evaluate import extreme_queries

    for title, gains in result.gains.items():
        for label, queries in zip(
            ("wins most", "loses most"), extreme_queries(gains, _QUERIES_SHOWN), strict=True
        ):
            named = ", ".join(f"{query_id} ({gain:+.2f})" for query_id, gain in queries)
            out.print(f"{title}: B {label} on {named or 'no query'}")
