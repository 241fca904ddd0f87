"""Who says how well a query finds what answers it, after one thought or another."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, Int

from t1_jax.errors import DataError
from t1_jax.retrieval import BM25, Collection, Document, Index, Query
from t1_jax.train.data import TrainingRecord

if TYPE_CHECKING:
    from t1_jax.retriever import T1

_DEPTH = 1000
"""Documents of a ranking by words that are looked at; what is not among them ranks behind all."""


@dataclass(frozen=True, kw_only=True)
class ThoughtScore:
    """How well a query finds what answers it.

    Attributes:
        rank: of the best positive among the documents that are neither positive nor excluded.
        gap: score of the best positive less that of the nearest such document: of their cosines,
            or of BM25's scores as shares of the greater one.
    """

    rank: int
    gap: float


Attempt = tuple[TrainingRecord, str | None]
"""A record's query with a thought, or without."""

Judge = Callable[[Sequence[Attempt]], list[ThoughtScore]]
"""Scores attempts, all with a thought or all without."""


def judge_dense(
    model: "T1", index: Index, *, task: str | None = None, show_progress_bar: bool = False
) -> Judge:
    """Embeds every thought with its query, as if the model had thought it.

    Args:
        model: embeds queries with thoughts, and without.
        index: of the documents, by the same model.
        task: name of an instruction in the model's preset; a record's own goes before it.
        show_progress_bar: draw bars.

    The judge raises a DataError if the index lacks a positive.
    """

    def judge(attempts: Sequence[Attempt]) -> list[ThoughtScore]:
        vectors = _embedded(model, attempts, task, show_progress_bar)
        return score_queries([record for record, _ in attempts], index, vectors)

    return judge


def judge_bm25(documents: Mapping[str, Document]) -> Judge:
    """Ranks documents by BM25 for the words of query and thought together; needs no model.

    Raises:
        DataError: no document has a word.
    """
    corpus = Collection(name="bm25", documents=tuple(documents.values()), queries=(), qrels={})
    words = BM25.build(corpus)

    def judge(attempts: Sequence[Attempt]) -> list[ThoughtScore]:
        queries = [
            Query(id=str(place), text=f"{record.query} {thought or ''}")
            for place, (record, thought) in enumerate(attempts)
        ]
        beside = {
            str(place): record.excluded | (record.positives.keys() - set(record.best_positives))
            for place, (record, _) in enumerate(attempts)
        }
        run = words.search(queries, _DEPTH, beside)
        return [
            _score_words(run[query.id], record)
            for query, (record, _) in zip(queries, attempts, strict=True)
        ]

    return judge


def _score_words(found: Mapping[str, float], record: TrainingRecord) -> ThoughtScore:
    best = max((found.get(name, 0.0) for name in record.best_positives), default=0.0)
    others = [score for name, score in found.items() if name not in record.best_positives]
    rank = 1 + sum(score >= best for score in others) if best else _DEPTH + 1
    nearest = max(others, default=0.0)
    return ThoughtScore(rank=rank, gap=(best - nearest) / (max(best, nearest) or 1.0))


def score_queries(
    records: Sequence[TrainingRecord], index: Index, vectors: Float[np.ndarray, "N E"]
) -> list[ThoughtScore]:
    """Where each vector puts the best positive of its record.

    Args:
        records: N of them; one may occur several times.
        index: of the documents.
        vectors: of the queries.

    Raises:
        DataError: the index lacks a positive.
    """
    if not records:
        return []
    row_of = index.table.row_of
    if lost := [(r.query_id, d) for r in records for d in r.best_positives if d not in row_of]:
        raise DataError(
            f"query {lost[0][0]!r} has the positive {lost[0][1]!r}, which the index lacks",
            hint="use an index of the records' own corpus",
        )
    rows = _padded([[row_of[name] for name in record.best_positives] for record in records])
    beside = [
        [row_of[name] for name in (*record.positives, *record.excluded) if name in row_of]
        for record in records
    ]
    ranks = index.rank_of(vectors, rows, excluded=beside)
    nearest = index.search(vectors, 1, excluded=beside).scores[:, 0]
    units = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return [
        ThoughtScore(
            rank=int(row_ranks[row_rows >= 0].min()),
            gap=float((index.vectors[row_rows[row_rows >= 0]] @ unit).max() - other),
        )
        for row_ranks, row_rows, unit, other in zip(ranks, rows, units, nearest, strict=True)
    ]


def _embedded(
    model: "T1", attempts: Sequence[Attempt], task: str | None, show_progress_bar: bool
) -> Float[np.ndarray, "N E"]:
    """A vector for each query with its thought; None embeds the query without thinking."""
    vectors = np.zeros((len(attempts), model.embed_dim), np.float32)
    for instruction in dict.fromkeys(record.instruction for record, _ in attempts):
        places = [i for i, (record, _) in enumerate(attempts) if record.instruction == instruction]
        thoughts = [thought for _, thought in (attempts[i] for i in places) if thought is not None]
        vectors[places] = model.encode_query(
            [attempts[i][0].query for i in places],
            query_ids=[attempts[i][0].query_id for i in places],
            thoughts=thoughts or None,
            think=bool(thoughts),
            task=None if instruction else task,
            instruction=instruction,
            show_progress_bar=show_progress_bar,
        )
    return vectors


def _padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "N R"]:
    widest = max(map(len, rows))
    return np.array([[*row, *[-1] * (widest - len(row))] for row in rows], np.int64)
