"""`t1 search`: find documents, by thinking about the query first or by BM25."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.cli.searching import Searcher
    from t1_jax.retrieval import Collection, Document

_TITLE_CHARACTERS = 80
_K, _K_OF_RUN = 10, 100


def search(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INDEX",
            help="An index, or a folder that `t1 encode` wrote; with --bm25 also a collection or a "
            "JSONL file of documents.",
        ),
    ],
    query: Annotated[str | None, typer.Argument(help="The query.")] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            "-q",
            help="Many queries instead of one: JSONL with _id and text, or a collection.",
        ),
    ] = None,
    split: options.Split = "test",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="TREC run to write for --queries.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", "-k", min=1, help=f"Documents per query. Default: {_K}; in a run {_K_OF_RUN}."
        ),
    ] = None,
    bm25: Annotated[bool, typer.Option("--bm25", help="Rank by BM25, without a model.")] = False,
    n: options.NumThoughts = 1,
    max_thought_tokens: options.MaxThoughtTokens = None,
    think: Annotated[
        bool,
        typer.Option("--think/--no-think", help="Sample a thought before the query is embedded."),
    ] = True,
    show_thought: Annotated[
        bool, typer.Option("--show-thought", help="Print the thoughts too.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Default: the model that made the index.")
    ] = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    task: options.Task = None,
    instruction: options.Instruction = None,
    preset: options.Preset = None,
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option("--dtype", help="Compute dtype. Default: the index's."),
    ] = None,
    lenient: options.Lenient = False,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Think about a query and print the nearest documents, or write a TREC run for many queries.

    The model, prompts, instruction and lengths are those of the index; an option that contradicts
    them is an error. --bm25 ranks lexically instead.

    Example: t1 search runs/cwe-index "a form field is copied into a page unescaped" --show-thought
    """
    from t1_jax.cli.searching import BM25Search, check_run_output, open_dense

    out = Output(as_json)
    if (query is None) == (queries is None):
        raise ConfigError(
            "give either one query, or many with --queries", hint=f't1 search {source} "your query"'
        )
    if (queries is None) != (output is None):
        raise ConfigError(
            "--queries and --output belong together: many queries give a TREC run",
            hint="add both, --queries FILE --output run.trec, or neither",
        )
    query_set = _query_set(query, queries, split, out, lenient=lenient)
    if output is not None:
        check_run_output(output, query_set, overwrite=overwrite)
    if bm25:
        _check_no_model_options(
            model=model, preset=preset, dtype=dtype, task=task, instruction=instruction,
            max_thought_tokens=max_thought_tokens, show_thought=show_thought or None,
        )  # fmt: skip
        searcher: Searcher = BM25Search.open(source, out, lenient=lenient)
    else:
        searcher = open_dense(
            source,
            [item.text for item in query_set.queries],
            overrides={"preset": preset, "dtype": dtype, "task": task, "instruction": instruction},
            model=model,
            thinking={"think": think, "n": n, "max_thought_tokens": max_thought_tokens},
            sampling={"temperature": temperature, "top_p": top_p, "seed": seed},
            out=out,
        )
    searcher.check_ids(query_set, as_run=output is not None)
    k = min(k or (_K if output is None else _K_OF_RUN), searcher.count)
    ranked, thoughts = searcher.search(query_set, k, many=output is not None)
    if output is not None:
        _write_run(out, output, query_set, ranked, searcher.tag)
    else:
        _print_results(
            out, query_set, ranked, thoughts, searcher.documents, show_thought=show_thought
        )


def _query_set(
    query: str | None, queries: str | None, split: str, out: Output, *, lenient: bool
) -> "Collection":
    """One query, or the queries of a file or collection, with the documents that each excludes."""
    from t1_jax.cli.inputs import open_queries, read_queries
    from t1_jax.retrieval import Collection, Query

    if queries is not None:
        return open_queries(queries, split, out, lenient=lenient)
    (text,) = read_queries([query or ""], None)
    single = Query(id="query", text=text)
    return Collection(name="query", documents=(), queries=(single,), qrels={})


def _check_no_model_options(**options: Any) -> None:
    if named := [name for name, value in options.items() if value is not None]:
        flags = ", ".join("--" + name.replace("_", "-") for name in named)
        raise ConfigError(f"BM25 uses no model, so {flags} would do nothing", hint="leave it out")


def _write_run(
    out: Output, path: Path, queries: "Collection", run: dict[str, dict[str, float]], tag: str
) -> None:
    from t1_jax.retrieval import write_run

    write_run(run, path, tag=tag)
    empty = [query.id for query in queries.queries if not run.get(query.id)]
    results = counted(sum(map(len, run.values())), "results")
    count = len(queries.queries)
    out.print(f"{path}: {counted(count, 'queries')}, {results}")
    if empty:
        out.warn(f"{counted(len(empty), 'queries without result')}, the first is {empty[0]!r}")
    out.result(output=path, queries=count, queries_without_result=empty, tag=tag)


def _print_results(
    out: Output,
    queries: "Collection",
    run: dict[str, dict[str, float]],
    thoughts: Sequence[Any],
    documents: "dict[str, Document]",
    *,
    show_thought: bool,
) -> None:
    from t1_jax.cli.think import print_thoughts, thought_fields

    (query,) = queries.queries
    samples = thoughts[0] if thoughts else []
    if show_thought:
        print_thoughts(out, query.text, samples)
    results = [
        {"rank": rank, "id": name, "score": score, "title": _title(documents.get(name))}
        for rank, (name, score) in enumerate(run[query.id].items(), 1)
    ]
    out.table(
        ("rank>", "score>", "document", "title"),
        [(str(r["rank"]), f"{r['score']:.4f}", r["id"], r["title"]) for r in results],
    )
    fields = [thought_fields(thought) for thought in samples]
    out.result(query=query.text, thoughts=fields, results=results)


def _title(document: "Document | None") -> str:
    lines = document.full_text.strip().splitlines() if document is not None else []
    return lines[0][:_TITLE_CHARACTERS] if lines else ""
