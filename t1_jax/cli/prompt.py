"""`t1 prompt show`: the exact prompts of queries and documents, and their tokens."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.progress import counted

if TYPE_CHECKING:
    from t1_jax.text import PromptTokens, T1Tokenizer

_LABELS = {
    "query": "query; the thought and <emb_token> follow",
    "query_candidates": "query with candidates; the thought and <emb_token> follow",
    "query_nothink": "query without a thought",
    "document": "document",
}


def show_prompt(
    text: Annotated[str, typer.Argument(help="The text of query and document.")] = (
        "why is the sky blue?"
    ),
    model: options.Model = options.DEFAULT_MODEL,
    task: options.Task = None,
    instruction: options.Instruction = None,
    preset: options.Preset = None,
    as_json: options.AsJson = False,
) -> None:
    """Print the exact text and tokens of each prompt, without reading weights.

    Example: t1 prompt show "why is the sky blue?" --task biology
    """
    from t1_jax.cli.inputs import read_queries
    from t1_jax.retriever import open_model, query_instruction
    from t1_jax.text import CANDIDATE_TOKENS, append_thoughts, tokenize_documents, tokenize_queries

    out = Output(as_json)
    read_queries([text], None)  # rejects an empty text
    opened = open_model(model, preset=preset)
    chosen = query_instruction(opened.preset, task, instruction)
    tokenizer, limits = opened.resolved.tokenizer, opened.options
    prompts = opened.preset.with_instruction(chosen)
    (query,), (nothink,) = (
        tokenize_queries(
            tokenizer, prompts, [text], max_tokens=limits.max_query_tokens, think=think
        )
        for think in (True, False)
    )
    (document,) = tokenize_documents(
        tokenizer, prompts, [text], max_tokens=limits.max_document_tokens
    )
    rows = {"query": query}
    if prompts.shows_candidates:
        limit = f"(at most {CANDIDATE_TOKENS} tokens)"
        titles = [f"title of the nearest document {limit}", "title of the next"]
        (rows["query_candidates"],) = tokenize_queries(
            tokenizer, prompts, [text], max_tokens=limits.max_query_tokens, candidates=[titles]
        )
    rows |= {
        "query_nothink": append_thoughts(tokenizer, [nothink], None)[0],
        "document": document,
    }
    shown = {name: _as_json(tokenizer, row) for name, row in rows.items()}
    name, version = opened.preset.name, opened.preset.version
    out.print(f"preset {name}, version {version}, hash {opened.preset.hash[:12]}")
    if opened.preset.uses_instruction:
        out.print(f"instruction: {chosen}")
        out.print(f"tasks: {', '.join(opened.preset.instructions) or 'none'}")
    else:
        out.print("no instruction")
    for kind, prompt in shown.items():
        truncated = ", truncated" if prompt["truncated"] else ""
        size = counted(len(prompt["tokens"]), "tokens")
        out.print(f"\n{_LABELS[kind]} ({size}{truncated})", style="bold")
        out.print(prompt["text"])
        out.print(
            " ".join(f"{token['id']}:{token['text']!r}" for token in prompt["tokens"]), style="dim"
        )
    out.result(
        preset=name,
        version=version,
        hash=opened.preset.hash,
        instruction=chosen if opened.preset.uses_instruction else None,
        prompts=shown,
    )


def _as_json(tokenizer: "T1Tokenizer", row: "PromptTokens") -> dict[str, Any]:
    ids = row.ids.tolist()
    return {
        "text": tokenizer.decode(ids),
        "truncated": row.truncated,
        "tokens": [{"id": number, "text": tokenizer.decode([number])} for number in ids],
    }
