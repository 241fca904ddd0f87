"""`t1 explain`: what a query's thought changes in its ranking."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output


def explain(
    source: Annotated[str, typer.Argument(metavar="FOLDER", help="What `t1 search` searches.")],
    query: Annotated[str, typer.Argument(help="The query.")],
    output: Annotated[
        Path | None, typer.Option("--output", "-o", help="HTML page to write.")
    ] = None,
    k: Annotated[int, typer.Option("--k", "-k", min=1, help="Length of the rankings.")] = 10,
    n: Annotated[
        int, typer.Option("--n", "-n", min=1, help="Thoughts over which ranks are spread.")
    ] = 5,
    max_thought_tokens: options.MaxThoughtTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    thought_cache: options.UseThoughtCache = True,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Default: the model that made the index.")
    ] = None,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Show the rankings with and without the thought, and what each of its sentences moves.

    The first thought is that of `t1 search` with the same options. Each of its sentences is left
    out in turn, and further thoughts, sampled at temperature 1 if no other is given, show how far
    ranks depend on the thought. Vectors alone rank, as with `t1 search --no-hybrid`.

    Example: t1 explain runs/cwe-index "a form field is copied into a page" -o explanation.html
    """
    from t1_jax.cli.inputs import read_queries
    from t1_jax.evaluate import ExplanationView, explain_query, render_explanation
    from t1_jax.files import check_new_file, write_atomically
    from t1_jax.retriever import open_dense, open_source

    out = Output(as_json)
    (text,) = read_queries([query], None)
    if output is not None:
        check_new_file(output, overwrite=overwrite)
    search = open_dense(
        open_source(source, None, out, lenient=False, bm25=False),
        [text],
        overrides={"preset": None, "dtype": None, "task": None, "instruction": None},
        model=model,
        thinking={"max_thought_tokens": max_thought_tokens},
        sampling={"temperature": temperature, "top_p": top_p, "seed": seed},
        thought_cache=thought_cache,
        out=out,
    )
    index, loaded = search.load(out)
    settings = {name: search.query_options[name] for name in ("instruction", "sampling")}
    explanation = explain_query(
        loaded,
        index,
        text,
        documents=search.source.documents_by_id,
        k=k,
        n=n,
        max_thought_tokens=max_thought_tokens,
        **settings,
    )
    out.render(ExplanationView(explanation))
    if output is not None:
        name = search.opened.provenance.name
        page = render_explanation(explanation, model=Path(name).name, index=Path(source).name)
        write_atomically(output, page)
        out.print(f"page: {output.resolve()}")
    out.result(**asdict(explanation), output=output)
