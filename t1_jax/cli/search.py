"""`t1 search`: find documents, by thinking about the query first or by BM25."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli.options import (
    AsJson,
    Budget,
    Instruction,
    Lenient,
    Overwrite,
    Preset,
    Seed,
    Split,
    Task,
    Temperature,
    Thoughts,
    TopP,
)
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError

if TYPE_CHECKING:
    from t1_jax.cli.searching import Searcher
    from t1_jax.retrieval import Collection, Document

_TITLE_CHARACTERS = 80
_SHOWN, _OF_A_RUN = 10, 100


def search(
    source: Annotated[
        str,
        typer.Argument(
            metavar="INDEX",
            help="An index, or vectors that `t1 encode` wrote; with --bm25 also a collection or a "
            "JSONL file of documents.",
        ),
    ],
    query: Annotated[str | None, typer.Argument(help="What to look for.")] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            "-q",
            help="Many queries instead of one: JSONL with _id and text, or a collection.",
        ),
    ] = None,
    split: Split = "test",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="TREC run to write for --queries.")
    ] = None,
    k: Annotated[
        int | None,
        typer.Option(
            "--k", "-k", min=1, help=f"Documents a query. Default: {_SHOWN}; in a run {_OF_A_RUN}."
        ),
    ] = None,
    bm25: Annotated[bool, typer.Option("--bm25", help="Rank by BM25; no model is needed.")] = False,
    n: Thoughts = 1,
    max_thought_tokens: Budget = None,
    think: Annotated[
        bool, typer.Option("--think/--no-think", help="Whether to think before searching.")
    ] = True,
    show_thought: Annotated[
        bool, typer.Option("--show-thought", help="Print the thoughts too.")
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Default: the one that made the index.")
    ] = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    task: Task = None,
    instruction: Instruction = None,
    preset: Preset = None,
    dtype: Annotated[
        Literal["bfloat16", "float32"] | None,
        typer.Option("--dtype", help="Of weights and activations. Default: the index's."),
    ] = None,
    lenient: Lenient = False,
    overwrite: Overwrite = False,
    as_json: AsJson = False,
) -> None:
    """Think about a query and show the nearest documents, or write a TREC run for many queries.

    The index knows its model, prompts, instruction and lengths, and they are used; options that
    contradict it are errors. With --bm25 documents are ranked by their words alone.

    Example: t1 search runs/cwe-index "a form field is copied into a page unescaped" --show-thought
    """
    from t1_jax.cli.searching import BM25Search, check_run_output, open_dense

    out = Output(as_json)
    if (query is None) == (queries is None):
        raise ConfigError(
            "say what to look for: one query, or --queries with many (not both)",
            hint=f't1 search {source} "your query"',
        )
    if (queries is None) != (output is None):
        raise ConfigError(
            "--queries and --output belong together: a run is written for many queries",
            hint="add --queries FILE --output run.trec, or neither",
        )
    asked = _asked(query, queries, split, out, lenient=lenient)
    if output is not None:
        check_run_output(output, asked, overwrite=overwrite)
    if bm25:
        _refuse_model_options(
            model=model, preset=preset, dtype=dtype, task=task, instruction=instruction,
            max_thought_tokens=max_thought_tokens, show_thought=show_thought or None,
        )  # fmt: skip
        searcher: Searcher = BM25Search.open(source, out, lenient=lenient)
    else:
        searcher = open_dense(
            source,
            [each.text for each in asked.queries],
            given={"preset": preset, "dtype": dtype, "task": task, "instruction": instruction},
            model=model,
            thinking={"think": think, "n": n, "max_thought_tokens": max_thought_tokens},
            sampling={"temperature": temperature, "top_p": top_p, "seed": seed},
            out=out,
        )
    searcher.check_ids(asked, as_run=output is not None)
    k = min(k or (_SHOWN if output is None else _OF_A_RUN), searcher.count)
    found, thoughts = searcher.search(asked, k, many=output is not None)
    if output is not None:
        _write(out, output, asked, found, searcher.tag)
    else:
        _show(out, asked, found, thoughts, searcher.documents, show_thought=show_thought)


def _asked(
    query: str | None, queries: str | None, split: str, out: Output, *, lenient: bool
) -> "Collection":
    """The queries as a collection without documents of its own, or the one they belong to."""
    from t1_jax.cli.inputs import given_queries, open_queries
    from t1_jax.retrieval import Collection, Query

    if queries is not None:
        return open_queries(queries, split, out, lenient=lenient)
    (text,) = given_queries([query or ""], None)
    one = Query(id="query", text=text)
    return Collection(name="query", documents=(), queries=(one,), qrels={})


def _refuse_model_options(**given: Any) -> None:
    if named := [name for name, value in given.items() if value is not None]:
        flags = ", ".join("--" + name.replace("_", "-") for name in named)
        raise ConfigError(f"BM25 uses no model, so {flags} would do nothing", hint="leave it out")


def _write(
    out: Output, path: Path, asked: "Collection", run: dict[str, dict[str, float]], tag: str
) -> None:
    from t1_jax.retrieval import write_run

    write_run(run, path, tag=tag)
    empty = [query.id for query in asked.queries if not run.get(query.id)]
    out.say(f"{path}: {len(asked.queries)} queries, {sum(map(len, run.values()))} results")
    if empty:
        out.say(f"{len(empty)} queries have no result, the first is {empty[0]!r}", style="yellow")
    out.result(
        {"output": path, "queries": len(asked.queries), "queries_without_result": empty, "tag": tag}
    )


def _show(
    out: Output,
    asked: "Collection",
    run: dict[str, dict[str, float]],
    thoughts: Sequence[Any],
    documents: "dict[str, Document]",
    *,
    show_thought: bool,
) -> None:
    from t1_jax.cli.think import show_thoughts, thought_fields

    (query,) = asked.queries
    drawn = thoughts[0] if thoughts else []
    if show_thought:
        show_thoughts(out, query.text, drawn)
    results = [
        {"rank": rank, "id": name, "score": score, "title": _title(documents.get(name))}
        for rank, (name, score) in enumerate(run[query.id].items(), 1)
    ]
    out.table(
        ("rank>", "score>", "document", "title"),
        [(str(r["rank"]), f"{r['score']:.4f}", r["id"], r["title"]) for r in results],
    )
    out.result(
        {
            "query": query.text,
            "thoughts": [thought_fields(thought) for thought in drawn],
            "results": results,
        }
    )


def _title(document: "Document | None") -> str:
    lines = document.full_text.strip().splitlines() if document is not None else []
    return lines[0][:_TITLE_CHARACTERS] if lines else ""
