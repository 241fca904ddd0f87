"""What a model answers to fixed texts: the numbers that two machines must agree on."""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Float

from t1_jax.generate import FinishReason, Prompt, SamplingParams, Thought
from t1_jax.model import Decoder
from t1_jax.retrieval import Collection
from t1_jax.retriever import T1, RetrieverOptions
from t1_jax.text import tokenize_queries

DTYPES = ("float32", "bfloat16")
TEXTS = 8
_BUDGET = 24


def load(path: str | Path, dtype: str, *, toy: bool) -> T1:
    """The model whose answers are compared: the trained one that ships, or the toy."""
    options = RetrieverOptions(
        max_query_tokens=96, max_document_tokens=128, max_thought_tokens=_BUDGET
    )
    return T1.load(path, dtype=dtype, options=options, preset="t1" if toy else None)


def answers(model: T1, collection: Collection) -> dict[str, np.ndarray]:
    """All that is stored: `embeddings`, `greedy_thoughts`, and the logits along the thoughts.

    Args:
        model: loaded by `load`.
        collection: its first documents and queries are used.

    Returns:
        What the two return, and `logits` [8 1 V] at the last position of prompt and thought
        together.
    """
    found = embeddings(model, collection) | greedy_thoughts(model, collection)
    texts = zip(unpadded(found["prompts"]), unpadded(found["thoughts"]), strict=True)
    return found | {
        "logits": last_logits(model, [[*prompt, *thought] for prompt, thought in texts])
    }


def embeddings(model: T1, collection: Collection) -> dict[str, np.ndarray]:
    """Unit vectors [8 D] of `documents`, and `plain` ones of queries without a thought."""
    queries = [query.text for query in collection.queries[:TEXTS]]
    task = model.known_task(collection.name)
    return {
        "documents": model.encode_document([d.full_text for d in collection.documents[:TEXTS]]),
        "plain": model.encode_query(queries, think=False, task=task),
    }


def greedy_thoughts(model: T1, collection: Collection) -> dict[str, np.ndarray]:
    """`prompts` and `thoughts` as token ids [8 L], padded with -1; `drawn` [8], how many tokens of
    a thought the model chose itself; `vectors` [8 D] after the thoughts.
    """
    queries = [query.text for query in collection.queries[:TEXTS]]
    task = model.known_task(collection.name)
    rows = tokenize_queries(model.tokenizer, model.preset, queries, max_tokens=96, task=task)
    prompts = [row.ids.tolist() for row in rows]
    thoughts = greedy(model, prompts)
    return {
        "prompts": padded(prompts),
        "thoughts": padded([thought.token_ids for thought in thoughts]),
        "drawn": np.array([_drawn(thought) for thought in thoughts], np.int32),
        "vectors": np.stack([thought.embedding for thought in thoughts]),
    }


def last_logits(model: T1, texts: Sequence[Sequence[int]]) -> Float[np.ndarray, "B 1 V"]:
    """The logits of `row_logits` at the last position of each text."""
    logits = row_logits(model, texts)
    return np.stack(
        [row[len(text) - 1 : len(text)] for row, text in zip(logits, texts, strict=True)]
    )


def greedy(model: T1, prompts: Sequence[Sequence[int]]) -> list[Thought]:
    """The likeliest thought about each prompt."""
    asked = [
        Prompt(query_id=str(number), token_ids=prompt) for number, prompt in enumerate(prompts)
    ]
    options = SamplingParams(temperature=0.0)
    return [
        group[0] for group in model.think(asked, n=1, max_thought_tokens=_BUDGET, sampling=options)
    ]


def row_logits(model: T1, texts: Sequence[Sequence[int]]) -> Float[np.ndarray, "B L V"]:
    """Logits of whole rows in one batch, by the forward pass that trains and encodes."""
    table = np.maximum(padded(texts), 0)
    length = -(-table.shape[1] // 32) * 32
    table = np.pad(table, ((0, 0), (0, length - table.shape[1])))
    with model.mesh_context.activate():
        graph, weights = nnx.split(model.decoder)
        tokens = jax.device_put(table, model.mesh_context.activation("bl"))
        return np.asarray(_logits(graph, weights, tokens))


@functools.partial(jax.jit, static_argnames=("graph",))
def _logits(graph: nnx.GraphDef[Decoder], weights: nnx.State, tokens: Any) -> jax.Array:
    decoder = nnx.merge(graph, weights)
    return decoder.logits(decoder(tokens)).astype(jnp.float32)


def largest_gap(
    model: T1,
    prompts: Sequence[Sequence[int]],
    thoughts: Sequence[Sequence[int]],
    drawn: Sequence[int],
) -> float:
    """How far, in nats, a chosen token ever was below the likeliest by the model's own reading.

    A greedy thought has a gap of 0 but for rounding, whatever near ties do to its text.
    """
    texts = [[*prompt, *thought] for prompt, thought in zip(prompts, thoughts, strict=True)]
    logits = row_logits(model, texts)
    worst = 0.0
    for row, prompt, thought, count in zip(logits, prompts, thoughts, drawn, strict=True):
        steps = np.arange(count)
        at = row[len(prompt) - 1 + steps]
        gap = at.max(axis=-1) - at[steps, np.asarray(thought)[:count]]
        worst = max(worst, float(gap.max(initial=0.0)))
    return worst


def _drawn(thought: Thought) -> int:
    """Tokens that the model chose: all but an `<emb_token>` that was appended."""
    return len(thought.token_ids) - (thought.finish_reason is not FinishReason.EMB_TOKEN)


def padded(rows: Sequence[Sequence[int] | np.ndarray]) -> np.ndarray:
    """Rows as a table, filled up with -1."""
    table = np.full((len(rows), max(map(len, rows))), -1, np.int32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def unpadded(table: np.ndarray) -> list[list[int]]:
    """The rows of such a table."""
    return [row[row >= 0].tolist() for row in table]
