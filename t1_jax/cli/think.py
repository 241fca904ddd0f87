"""`t1 think`: the thoughts that T1 samples, printed for a few queries, in a file for many."""

from collections.abc import Iterator
from dataclasses import asdict
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli import options
from t1_jax.cli.inputs import read_queries
from t1_jax.cli.output import Output
from t1_jax.errors import ConfigError
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.generate import Thought
    from t1_jax.retrieval import Query
    from t1_jax.retriever import OpenedModel, ThoughtCounts

_CHECKED_QUERIES = 1000
"""Queries of a file that are checked against the prompt before the model is loaded."""


def think(
    texts: Annotated[list[str] | None, typer.Argument(metavar="QUERY", help="Queries.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file",
            "-f",
            help="A file with one query per line, or JSONL with _id and text; - reads standard "
            "input.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            help="JSONL file to write, one line per query. The same command goes on after an "
            "interruption.",
        ),
    ] = None,
    model: options.Model = options.DEFAULT_MODEL,
    n: options.NumThoughts = 1,
    max_thought_tokens: options.MaxThoughtTokens = None,
    temperature: options.Temperature = 0.0,
    top_p: options.TopP = 1.0,
    seed: options.Seed = 0,
    task: options.Task = None,
    instruction: options.Instruction = None,
    preset: options.Preset = None,
    dtype: options.Dtype = "bfloat16",
    thought_cache: options.UseThoughtCache = True,
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Print the thoughts about each query, with their finish reasons and log-probabilities.

    Queries come from the arguments, from --file, or from standard input, one per line. With
    --output, a file of any length is read as a stream, and the thoughts are written as JSONL.

    Example: t1 think "why is the sky blue?" --n 3 --temperature 0.7
    """
    from t1_jax.cli.model import log_cached_thoughts
    from t1_jax.generate import SamplingParams
    from t1_jax.retriever import load_model, open_model, query_instruction, thought_fields

    sampling = SamplingParams(temperature=temperature, top_p=top_p, seed=seed)
    out = Output(as_json)
    if output is not None:
        if texts:
            raise ConfigError(
                "--output takes its queries from a file", hint="add --file FILE instead of queries"
            )
        thinking = {"n": n, "max_thought_tokens": max_thought_tokens, "sampling": sampling}
        _think_to_file(
            out,
            file or Path("-"),
            output,
            open_model(model, dtype=dtype, preset=preset),
            task=task,
            instruction=instruction,
            thinking=thinking,
            thought_cache=thought_cache,
            overwrite=overwrite,
        )
        return
    queries = read_queries(texts or [], file)
    opened = open_model(model, dtype=dtype, preset=preset)
    chosen = query_instruction(opened.preset, task, instruction)
    opened.check_queries(
        queries, instruction=chosen, n=n, max_thought_tokens=max_thought_tokens, sampling=sampling
    )
    loaded = load_model(out, opened, thought_cache=thought_cache)
    _, thoughts = loaded.encode_query(
        queries,
        n=n,
        max_thought_tokens=max_thought_tokens,
        return_thoughts=True,
        instruction=chosen,
        sampling=sampling,
        show_progress_bar=True,
    )
    log_cached_thoughts(out, loaded)
    results = []
    for query, samples in zip(queries, thoughts, strict=True):
        print_thoughts(out, query, samples)
        results.append({"query": query, "thoughts": [thought_fields(t) for t in samples]})
    out.result(model=model, instruction=chosen, queries=results)


def _think_to_file(
    out: Output,
    path: Path,
    output: Path,
    opened: "OpenedModel",
    *,
    task: str | None,
    instruction: str | None,
    thinking: dict[str, Any],
    thought_cache: bool,
    overwrite: bool,
) -> None:
    from t1_jax.cli.model import log_cached_thoughts
    from t1_jax.cli.thinking_bar import thinking_bar
    from t1_jax.files import check_new_file
    from t1_jax.retrieval import check_query_file
    from t1_jax.retriever import load_model, query_instruction, write_thoughts

    check_new_file(output, overwrite=overwrite)
    file = check_query_file(path)
    chosen = query_instruction(opened.preset, task, instruction)
    queries = _checked_queries(file.queries(), opened, instruction=chosen, **thinking)
    loaded = load_model(out, opened, thought_cache=thought_cache)
    try:
        with thinking_bar(file.count) as progress:
            counts = write_thoughts(
                loaded,
                queries,
                output,
                instruction=chosen,
                seed_by_id=file.has_ids,
                overwrite=overwrite,
                progress=progress,
                log=out.log,
                **thinking,
            )
    except KeyboardInterrupt:
        out.log("finished thoughts are kept: the same command goes on from there")
        raise
    log_cached_thoughts(out, loaded)
    _print_counts(out, output, counts)
    out.result(output=output, instruction=chosen, **asdict(counts))


def _checked_queries(
    queries: "Iterator[Query]", opened: "OpenedModel", **thinking: Any
) -> "Iterator[Query]":
    """The queries, of which the first ones are checked at once; see `OpenedModel.check_queries`."""
    first = list(islice(queries, _CHECKED_QUERIES))
    opened.check_queries(
        [query.text for query in first],
        names=[f"query {query.id!r}" for query in first],
        **thinking,
    )
    return chain(first, queries)


def _print_counts(out: Output, output: Path, counts: "ThoughtCounts") -> None:
    mean = counts.tokens / counts.thoughts
    out.print(
        f"{output}: {counted(counts.queries, 'queries')}, {counted(counts.thoughts, 'thoughts')} "
        f"of {mean:.1f} tokens on average"
    )
    remarks = {
        "thoughts truncated at the maximum length": counts.truncated,
        "thoughts without a word": counts.empty,
        "repetitive thoughts": counts.repetitive,
        "queries truncated to fit the prompt": counts.truncated_queries,
        "queries that repeat an earlier one": counts.repeated_queries,
    }
    for what, count in remarks.items():
        if count:
            out.print(f"  {counted(count, what)}")


def print_thoughts(out: Output, query: str, thoughts: "list[Thought]") -> None:
    """Prints a query and its thoughts."""
    from t1_jax.retriever import thought_fields

    out.print(query, style="bold")
    for thought in thoughts:
        out.print(thought.text.strip() or "(nothing)")
        fields = thought_fields(thought)
        out.print(
            f"[thought {thought.sample}: {counted(fields['tokens'], 'tokens')}, "
            f"finish reason {fields['finish_reason']}, "
            f"log-probability {fields['log_prob']:.1f} nats]",
            style="dim",
        )
