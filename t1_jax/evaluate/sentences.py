"""What each sentence of a thought does: the ranking is made again without it."""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from t1_jax.retrieval import Index

Encode = Callable[[list[str], list[str]], Float[np.ndarray, "B D"]]
"""Embeds queries, each after a user-supplied thought."""


@dataclass(frozen=True, kw_only=True)
class RankChange:
    """A document's rank with a text, and with the text changed; 1 is the best."""

    document_id: str
    before: int
    after: int


@dataclass(frozen=True, kw_only=True)
class SentenceEffect:
    """What leaving one sentence out of the thought changes.

    Attributes:
        text: the sentence.
        similarity: cosine between the query embeddings with and without it.
        moves: the shown documents whose rank changes without it, largest change of 1 / rank first.
    """

    text: str
    similarity: float
    moves: tuple[RankChange, ...]


def split_sentences(text: str) -> list[str]:
    """The sentences of a thought, with the white space after each; together they are the text."""
    return [
        part for part in re.findall(r".*?(?:[.!?;]+\s+|\n+|$)", text, re.DOTALL) if part.strip()
    ]


def sentence_effects(
    index: Index,
    query: str,
    thought: str,
    encode: Encode,
    rows: Sequence[int],
    excluded: Sequence[int] = (),
) -> tuple[SentenceEffect, ...]:
    """The effect of each sentence on the ranks of some documents; none for an empty thought.

    Args:
        index: the documents.
        query: the query.
        thought: the thought about it.
        encode: embeds; the whole thought is encoded in the same way as the shortened ones.
        rows: documents whose ranks are compared.
        excluded: documents that are not ranked.
    """
    sentences = split_sentences(thought)
    if not sentences:
        return ()
    changed = [
        "".join(other for place, other in enumerate(sentences) if place != number)
        for number in range(len(sentences))
    ]
    vectors = encode([query] * (1 + len(changed)), [thought, *changed])
    whole, *others = ranks_of(index, vectors, rows, excluded).tolist()
    names = [index.ids[row] for row in rows]
    return tuple(
        SentenceEffect(
            text=sentence.strip(),
            similarity=float(vector @ vectors[0]),
            moves=_moves(names, whole, ranks),
        )
        for sentence, vector, ranks in zip(sentences, vectors[1:], others, strict=True)
    )


def ranks_of(
    index: Index,
    vectors: Float[np.ndarray, "B D"],
    rows: Sequence[int],
    excluded: Sequence[int] = (),
) -> Int[np.ndarray, "B R"]:
    """The rank of each document for each vector."""
    each = np.tile(np.array(rows, np.int64), (len(vectors), 1))
    return index.rank_of(vectors, each, [list(excluded)] * len(vectors))


def _moves(
    names: Sequence[str], before: Sequence[int], after: Sequence[int]
) -> tuple[RankChange, ...]:
    changes = [
        RankChange(document_id=name, before=a, after=b)
        for name, a, b in zip(names, before, after, strict=True)
        if a != b
    ]
    return tuple(sorted(changes, key=lambda change: -abs(1 / change.before - 1 / change.after)))
