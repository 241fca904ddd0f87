"""`t1 fuse`: the rankings of several retrievers, combined into one run."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.retrieval import Run


def fuse(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN RUN...",
            help="Two or more runs: TREC runs, or score.json of BRIGHT.",
        ),
    ],
    output: Annotated[Path, typer.Option("--output", "-o", help="TREC run to write.")],
    fusion: Annotated[
        Literal["rrf", "minmax", "zscore", "convex"],
        typer.Option(
            "--fusion",
            help="Sum reciprocal ranks (rrf), scores from 0 to 1 (minmax), or standard deviations "
            "(zscore); convex scales the first run, that of BM25, by its maximum.",
        ),
    ] = "rrf",
    weights: Annotated[
        list[float] | None,
        typer.Option(
            "--weight", "-w", help="Weight of a run, once for each in order. Default: equal."
        ),
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Documents per query.")] = 1000,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Combine runs of several retrievers, whatever index or model they come from.

    Score the result with `t1 evaluate --run`.

    Example: t1 fuse bm25.trec t1.trec -o fused.trec
    """
    from t1_jax.files import check_new_file
    from t1_jax.retrieval import Fusion, fuse_runs, read_run, write_run

    out = Output(as_json)
    check_new_file(output, overwrite=overwrite)
    method = Fusion(method=fusion, weights=None if weights is None else tuple(weights))
    fused = fuse_runs([_with_trec_ids(read_run(path)) for path in runs], k, method)
    write_run(fused, output, tag=fusion)
    out.print(f"{output}: {counted(len(fused), 'queries')} of {counted(len(runs), 'runs')}")
    out.result(output=output, queries=len(fused), runs=len(runs), fusion=fusion)


def _with_trec_ids(run: "Run") -> "Run":
    """The run with ids as in TREC files, so that runs of different formats have the same."""
    from t1_jax.retrieval import trec_ids

    queries = trec_ids(run)
    documents = trec_ids(dict.fromkeys(name for scores in run.values() for name in scores))
    return {
        queries[query]: {documents[name]: score for name, score in scores.items()}
        for query, scores in run.items()
    }
