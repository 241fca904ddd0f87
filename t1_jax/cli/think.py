"""`t1 think`: what T1 thinks about a query before it searches."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli.inputs import given_queries
from t1_jax.cli.options import (
    DEFAULT_MODEL,
    AsJson,
    Budget,
    Dtype,
    Instruction,
    Model,
    Preset,
    Seed,
    Task,
    Temperature,
    Thoughts,
    TopP,
)
from t1_jax.cli.output import Output

if TYPE_CHECKING:
    from t1_jax.generate import Thought


def think(
    texts: Annotated[
        list[str] | None, typer.Argument(metavar="QUERY", help="Queries to think about.")
    ] = None,
    file: Annotated[
        Path | None, typer.Option("--file", "-f", help="One query a line; - is standard input.")
    ] = None,
    model: Model = DEFAULT_MODEL,
    n: Thoughts = 1,
    max_thought_tokens: Budget = None,
    temperature: Temperature = 1.0,
    top_p: TopP = 1.0,
    seed: Seed = 0,
    task: Task = None,
    instruction: Instruction = None,
    preset: Preset = None,
    dtype: Dtype = "bfloat16",
    as_json: AsJson = False,
) -> None:
    """Print the thoughts about each query, how they ended, and how likely they were.

    Queries come from the arguments, from --file, or from standard input, one a line.

    Example: t1 think "why is the sky blue?" --n 3 --temperature 0.7
    """
    queries = given_queries(texts or [], file)
    from t1_jax.cli.model import query_instruction
    from t1_jax.generate import SamplingParams
    from t1_jax.retriever import open_model

    sampling = SamplingParams(temperature=temperature, top_p=top_p, seed=seed)
    out = Output(as_json)
    opened = open_model(model, dtype=dtype, preset=preset)
    chosen = query_instruction(opened.preset, task, instruction)
    opened.check_queries(queries, instruction=chosen, n=n, max_thought_tokens=max_thought_tokens)
    _, thoughts = opened.load().encode_query(
        queries,
        n=n,
        max_thought_tokens=max_thought_tokens,
        return_thoughts=True,
        instruction=chosen,
        sampling=sampling,
        show_progress_bar=True,
    )
    for query, drawn in zip(queries, thoughts, strict=True):
        show_thoughts(out, query, drawn)
    out.result(
        {
            "model": model,
            "instruction": chosen,
            "queries": [
                {"query": query, "thoughts": [thought_fields(thought) for thought in drawn]}
                for query, drawn in zip(queries, thoughts, strict=True)
            ],
        }
    )


def show_thoughts(out: Output, query: str, thoughts: "list[Thought]") -> None:
    """Prints a query and what was thought about it."""
    out.say(query, style="bold")
    for thought in thoughts:
        out.say(thought.text.strip() or "(nothing)")
        fields = thought_fields(thought)
        out.say(
            f"[thought {thought.sample}: {fields['tokens']} tokens, ended by {fields['end']}, "
            f"log-probability {fields['log_prob']:.1f} nats]",
            style="dim",
        )


def thought_fields(thought: "Thought") -> dict[str, Any]:
    """A thought for machines; `log_prob` sums over the tokens that the model drew, in nats."""
    drawn = slice(-1) if thought.emb_token_appended else slice(None)
    return {
        "sample": thought.sample,
        "text": thought.text,
        "finish_reason": thought.finish_reason.value,
        "tokens": thought.reasoning_tokens,
        "log_prob": float(thought.log_probs[drawn].sum()),
        "log_prob_at_1": float(thought.log_probs_at_1[drawn].sum()),
    }
