"""Bodies of answers: thoughts, hits and embeddings as JSON."""

import base64
from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float

from t1_jax.generate import Thought
from t1_jax.retrieval import Hit
from t1_jax.serve.queries import QueryResult


def thought_body(thought: Thought, prefix: str | None = None) -> dict[str, Any]:
    """A thought: its text with the prefix that the client sent, tokens and why it ended."""
    return {
        "sample": thought.sample,
        "text": (prefix or "") + thought.text,
        "tokens": thought.reasoning_tokens,
        "finish_reason": thought.finish_reason.value,
    }


def query_body(result: QueryResult, prefix: str | None = None) -> dict[str, Any]:
    """What there is to know about an embedded query but its vector."""
    return {
        "thoughts": [thought_body(thought, prefix) for thought in result.thoughts],
        "spread": result.spread,
        "truncated": result.truncated,
        "cached": result.cached,
    }


def usage_body(results: Sequence[QueryResult]) -> dict[str, int]:
    """Tokens of prompts and thoughts, apart."""
    prompt = sum(result.prompt_tokens for result in results)
    thought = sum(result.thought_tokens for result in results)
    return {
        "prompt_tokens": prompt,
        "thought_tokens": thought,
        "total_tokens": prompt + thought,
    }


def hit_body(rank: int, hit: Hit, *, return_text: bool) -> dict[str, Any]:
    """A found document, with the sentence that matches query and thought best."""
    body: dict[str, Any] = {
        "rank": rank,
        "id": hit.id,
        "score": hit.score,
        "bm25": hit.bm25,
        "cosine": hit.cosine,
        "title": hit.title,
        "sentence": hit.sentence,
        "path": None if hit.path is None else hit.path.as_posix(),
        "line": hit.line,
    }
    if return_text:
        body["text"] = hit.text
    return body


def embedding_body(vector: Float[np.ndarray, " D"], encoding_format: str) -> list[float] | str:
    """A vector as numbers, or as base64 of little-endian float32."""
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return vector.astype(float).tolist()
