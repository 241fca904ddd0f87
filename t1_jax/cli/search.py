"""`t1 search`: find documents, by thinking about the query first, by BM25, or by both."""

import sys
from collections.abc import Iterator
from pathlib import Path
from shlex import quote
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output, print_error
from t1_jax.errors import ConfigError, T1Error
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.retrieval import Collection, Hit
    from t1_jax.retriever import Searcher

_K, _K_OF_RUN = 10, 100
_STYLES = {"thought": "italic", "heading": "bold", "sentence": ""}


def search(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FOLDER",
            help="A folder of text, Markdown, source code, JSONL, CSV or Parquet, one such file, a "
            "collection, or an index.",
        ),
    ],
    query: Annotated[
        str | None, typer.Argument(help="The query. Without one, queries are asked for.")
    ] = None,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            "-q",
            help="Many queries instead of one: JSONL with _id and text, .tsv with id and text, "
            "TREC topics, or a collection.",
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
    hybrid: Annotated[
        bool | None,
        typer.Option(
            "--hybrid/--no-hybrid",
            help="Rank by BM25 and vectors together, or by vectors alone. Default: together for "
            "files that the model was not trained on.",
        ),
    ] = None,
    fusion: Annotated[
        Literal["convex", "rrf", "minmax", "zscore"] | None,
        typer.Option("--fusion", help="How --hybrid combines the scores. Default: convex."),
    ] = None,
    n: options.NumThoughts = 1,
    max_thought_tokens: options.MaxThoughtTokens = None,
    think: Annotated[
        bool,
        typer.Option("--think/--no-think", help="Sample a thought before the query is embedded."),
    ] = True,
    thought: Annotated[
        str | None, typer.Option("--thought", help="Your own thought about the query.")
    ] = None,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates",
            min=0,
            help="Show the thought the titles of this many documents that the query finds without "
            "it, for example 8. The model must have been trained so.",
        ),
    ] = 0,
    constrained: Annotated[
        bool,
        typer.Option(
            "--constrained",
            help="Let each thought be the title of one of the documents (transductive).",
        ),
    ] = False,
    verify: Annotated[
        int | None,
        typer.Option(
            "--verify",
            min=2,
            help="Reorder this many of the nearest documents by how likely the model finds their "
            "titles as thoughts, for example 16.",
        ),
    ] = None,
    verify_weight: Annotated[
        float | None,
        typer.Option("--verify-weight", help="Weight of the model's judgment beside the cosine."),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help=f"Default: the model of the index, or {options.DEFAULT_MODEL} for a new one.",
        ),
    ] = None,
    index: Annotated[
        Path | None,
        typer.Option("--index", help="Where the index of a folder lies. Default: in the cache."),
    ] = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    thought_cache: options.UseThoughtCache = True,
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
    """Search files: think about the query, and print the best passages with file and line.

    The first search of a folder encodes it; later ones encode what has changed. The index is in the
    cache, and the folder is not written to. The index remembers model, prompts, instruction and
    lengths, so later searches need no options. Without a query, the model stays loaded and queries
    are asked for. With --queries, a TREC run is written.

    Example: t1 search notes/ "why is the sky blue"
    """
    from t1_jax.retrieval import Fusion
    from t1_jax.retriever import Searcher, Verification, hybrid_note, open_dense, open_source

    out = Output(as_json)
    if query is not None and queries is not None:
        raise ConfigError("give either one query, or many with --queries", hint="leave one out")
    if (queries is None) != (output is None):
        raise ConfigError(
            "--queries and --output belong together: many queries give a TREC run",
            hint="add both, --queries FILE --output run.trec, or neither",
        )
    if thought is not None and (query is None or not think):
        raise ConfigError(
            "--thought is a thought about one query",
            hint=f't1 search {quote(source)} "your query" --thought "your thought"',
        )
    if thought is not None and (n != 1 or max_thought_tokens is not None):
        raise ConfigError(
            "--n and --max-thought-tokens apply only where thoughts are sampled",
            hint="leave them out beside --thought",
        )
    if verify_weight is not None and verify is None:
        raise ConfigError("--verify-weight needs --verify", hint="add --verify 16")
    if candidates and not think:
        raise ConfigError(
            "--candidates are titles that a thought sees, and --no-think has no thought",
            hint="leave one of them out",
        )
    if constrained and (not think or thought is not None):
        raise ConfigError(
            "--constrained chooses a thought, and nothing is to be thought here",
            hint="leave out --constrained, or --no-think and --thought",
        )
    verification = None
    if verify is not None:
        weight = Verification.weight if verify_weight is None else verify_weight
        verification = Verification(k=verify, weight=weight)
    if bm25:
        _check_no_model_options(
            hybrid=hybrid or None, fusion=fusion, thought=thought, verify=verify, model=model,
            candidates=candidates or None, constrained=constrained or None, index=index,
            preset=preset, dtype=dtype, task=task, instruction=instruction,
            max_thought_tokens=max_thought_tokens,
        )  # fmt: skip
    query_set = _query_set(query, queries, split, out, lenient=lenient)
    if output is not None:
        _check_run_output(output, query_set, overwrite=overwrite)
    texts = open_source(source, index, out, lenient=lenient, bm25=bm25)
    texts.check_ids(query_set, as_run=output is not None)
    if (candidates or constrained or verify is not None) and not texts.documents:
        raise ConfigError(
            f"{source} has vectors only, and --candidates, --constrained and --verify need titles",
            hint="leave them out, or search an index that stores its documents",
        )
    query_options: dict[str, Any] = {}
    if bm25:
        searcher = Searcher(texts.documents_by_id, bm25=texts.bm25(), root=texts.root)
    else:
        dense = open_dense(
            texts,
            [item.text for item in query_set.queries],
            overrides={"preset": preset, "dtype": dtype, "task": task, "instruction": instruction},
            model=model,
            thinking={
                "think": think,
                "thoughts": None if thought is None else [thought],
                "n": n,
                "max_thought_tokens": max_thought_tokens,
                "candidates": candidates,
            },
            sampling={"temperature": temperature, "top_p": top_p, "seed": seed},
            thought_cache=thought_cache,
            out=out,
        )
        if hybrid is None and (hybrid := dense.is_hybrid_by_default):
            out.log(hybrid_note(dense, "--no-hybrid"))
        query_options = {
            **dense.query_options,
            "candidates": candidates,
            "constrained": constrained,
            "verify": verification,
        }
        _check_fusion(fusion, hybrid=bool(hybrid))
        searcher = Searcher.load(
            dense, out, hybrid=bool(hybrid), fusion=Fusion(method=fusion or "convex")
        )
    if output is not None:
        _write_run(
            out, output, query_set, searcher, min(k or _K_OF_RUN, len(texts.ids)), query_options
        )
        return
    k = min(k or _K, len(texts.ids))
    if query is not None:
        _search_one(out, searcher, query_set, k, query_options)
        return
    for text in _asked_queries(out, source):
        try:
            asked = _query_set(text, None, split, out, lenient=lenient)
            _search_one(out, searcher, asked, k, query_options)
        except T1Error as error:
            print_error(error, as_json=as_json)


def _check_fusion(fusion: str | None, *, hybrid: bool) -> None:
    if fusion is not None and not hybrid:
        raise ConfigError(
            f"--fusion {fusion} combines BM25 with vectors, and this ranking has vectors alone",
            hint="add --hybrid",
        )


def _asked_queries(out: Output, source: str) -> Iterator[str]:
    """The lines that are typed, or piped in, until an end of file or an empty line."""
    is_typed = _is_terminal()
    if is_typed:
        out.print(f"Searching {source}. An empty line ends.", style="dim")
    while True:
        if is_typed:
            print("query: ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        if not line or (is_typed and not line.strip()):
            return
        if line.strip():
            yield line.strip()


def _is_terminal() -> bool:
    return sys.stdin.isatty()


def _query_set(
    query: str | None, queries: str | None, split: str, out: Output, *, lenient: bool
) -> "Collection":
    """One query, or the queries of a file or collection, with the documents that each excludes."""
    from t1_jax.cli.inputs import open_queries, read_queries
    from t1_jax.retrieval import Collection, Query

    if queries is not None:
        return open_queries(queries, split, out, lenient=lenient)
    texts = [] if query is None else read_queries([query], None)
    single = tuple(Query(id="query", text=text) for text in texts)
    return Collection(name="query", documents=(), queries=single, qrels={})


def _check_no_model_options(**options: Any) -> None:
    if named := [name for name, value in options.items() if value is not None]:
        flags = ", ".join("--" + name.replace("_", "-") for name in named)
        raise ConfigError(f"BM25 uses no model, so {flags} would do nothing", hint="leave it out")


def _check_run_output(path: Path, queries: "Collection", *, overwrite: bool) -> None:
    """Checks that a run can be written, before anything is computed.

    Raises:
        T1Error: the file exists, or cannot be created.
        DataError: two query ids would become one in a TREC file.
    """
    from t1_jax.files import check_new_file
    from t1_jax.retrieval import trec_ids

    check_new_file(path, overwrite=overwrite)
    trec_ids(query.id for query in queries.queries)


def _write_run(
    out: Output,
    path: Path,
    queries: "Collection",
    searcher: "Searcher",
    k: int,
    query_options: dict[str, Any],
) -> None:
    from t1_jax.retrieval import write_run

    run = searcher.search(queries, k, seed_by_id=True, show_progress_bar=True, **query_options).run
    tag = {"bm25": "bm25", "dense": "t1", "hybrid": "t1-hybrid"}[searcher.ranking]
    write_run(run, path, tag=tag)
    empty = [query.id for query in queries.queries if not run.get(query.id)]
    results = counted(sum(map(len, run.values())), "results")
    count = len(queries.queries)
    out.print(f"{path}: {counted(count, 'queries')}, {results}")
    if empty:
        out.warn(f"{counted(len(empty), 'queries without result')}, the first is {empty[0]!r}")
    out.result(output=path, queries=count, queries_without_result=empty, tag=tag)


def _search_one(
    out: Output,
    searcher: "Searcher",
    queries: "Collection",
    k: int,
    query_options: dict[str, Any],
) -> None:
    """Searches for one query, and prints its thoughts and hits."""
    from t1_jax.retriever import thought_fields

    (query,) = queries.queries
    found = searcher.search(queries, k, **query_options)
    hits = searcher.hits(found, query.id, query.text)
    sampled = found.thoughts[0] if found.thoughts else []
    for kind, line in hits.lines():
        out.print(line, style=_STYLES[kind])
    if not hits:
        out.warn("no document has a word of the query")
    out.result(
        query=query.text,
        ranking=searcher.ranking,
        thoughts=[thought_fields(thought) for thought in sampled],
        results=[_hit_fields(rank, hit) for rank, hit in enumerate(hits, 1)],
    )


def _hit_fields(rank: int, hit: "Hit") -> dict[str, Any]:
    return {
        "rank": rank,
        "id": hit.id,
        "score": hit.score,
        "bm25": hit.bm25,
        "cosine": hit.cosine,
        "title": hit.title,
        "snippet": hit.sentence,
        "path": hit.path,
        "line": hit.line,
    }
