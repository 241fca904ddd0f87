"""`t1 think`: prints the thoughts that T1 samples for a query."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli import options
from t1_jax.cli.inputs import read_queries
from t1_jax.cli.output import Output
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.generate import Thought


def think(
    texts: Annotated[list[str] | None, typer.Argument(metavar="QUERY", help="Queries.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(
            "--file", "-f", help="A file with one query per line; - reads standard input."
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
    as_json: options.AsJson = False,
) -> None:
    """Print the thoughts about each query, with their finish reasons and log-probabilities.

    Queries come from the arguments, from --file, or from standard input, one per line.

    Example: t1 think "why is the sky blue?" --n 3 --temperature 0.7
    """
    from t1_jax.cli.model import load_model, log_cached_thoughts, query_instruction
    from t1_jax.generate import SamplingParams
    from t1_jax.retriever import open_model

    queries = read_queries(texts or [], file)
    sampling = SamplingParams(temperature=temperature, top_p=top_p, seed=seed)
    out = Output(as_json)
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


def print_thoughts(out: Output, query: str, thoughts: "list[Thought]") -> None:
    """Prints a query and its thoughts."""
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


def thought_fields(thought: "Thought") -> dict[str, Any]:
    """A thought as JSON; `log_prob` is the sum over the sampled tokens, in nats."""
    sampled = slice(-1) if thought.emb_token_appended else slice(None)
    return {
        "sample": thought.sample,
        "text": thought.text,
        "finish_reason": thought.finish_reason.value,
        "tokens": thought.reasoning_tokens,
        "log_prob": float(thought.log_probs[sampled].sum()),
        "log_prob_at_1": float(thought.log_probs_at_1[sampled].sum()),
    }
