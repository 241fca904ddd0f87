"""The tasks: documents and queries of a collection as tokens, with fixed counts."""

from dataclasses import dataclass
from typing import Any

from t1_jax.retrieval import Collection
from t1_jax.retriever import T1
from t1_jax.text import tokenize_documents, tokenize_queries

NEW_TOKENS = 64
LONG_PROMPT = 256


@dataclass(frozen=True, kw_only=True)
class Task:
    """One task to time.

    Attributes:
        name: name in the table.
        unit: unit of work: `tokens` encoded, or `new tokens` sampled.
        units: number of units.
        message: message to the worker.
        peer: whether PyTorch runs it too.
    """

    name: str
    unit: str
    units: int
    message: dict[str, Any]
    peer: bool = True


def make_tasks(model: T1, collection: Collection, documents: int = 32) -> list[Task]:
    """Encode documents, then think in batches of 1, 8, 32 and 8 x 8."""
    texts = [document.full_text for document in collection.documents[:documents]]
    rows = [
        row.ids.tolist()
        for row in tokenize_documents(model.tokenizer, model.preset, texts, max_tokens=512)
    ]
    tasks = [
        Task(
            name=f"encode {documents} documents",
            unit="tokens",
            units=sum(map(len, rows)),
            message={"kind": "encode", "rows": rows},
        )
    ]
    queries = [query.text for query in collection.queries[:64]]
    prompts = [row.ids.tolist() for row in tokenize_queries(
        model.tokenizer, model.preset, queries, max_tokens=512, task=collection.name
    )]  # fmt: skip
    for batch in (1, 8, 32):
        tasks.append(_think(f"think, batch {batch}", prompts[:batch], samples=1))
    # Queries as long as a forum post, where a shared prefix matters.
    posts = [" ".join(queries[i : i + 16]) for i in range(8)]
    long = [row.ids.tolist() for row in tokenize_queries(
        model.tokenizer, model.preset, posts, max_tokens=LONG_PROMPT, task=collection.name
    )]  # fmt: skip
    tasks.append(_think("think, 8 queries x 8, shared prefix", long, samples=8))
    separate = [prompt for prompt in long for _ in range(8)]
    tasks.append(_think("think, 8 queries x 8, separate prompts", separate, samples=1, peer=False))
    return tasks


def _think(name: str, prompts: list[list[int]], *, samples: int, peer: bool = True) -> Task:
    message = {
        "kind": "think",
        "prompts": prompts,
        "samples": samples,
        "new_tokens": NEW_TOKENS,
    }
    units = len(prompts) * samples * NEW_TOKENS
    return Task(name=name, unit="new tokens", units=units, message=message, peer=peer)
