"""Judges: how well a query with a thought ranks its positives, by BM25 or by embeddings."""

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
"""Depth of a BM25 ranking; a positive below it gets the next rank."""


@dataclass(frozen=True, kw_only=True)
class ThoughtScore:
    """How well a query ranks its positives.

    Attributes:
        rank: of the best positive, among the documents that are neither positive nor excluded.
        gap: score of the best positive minus that of the best such document: cosines, or BM25
            scores relative to the greater one.
    """

    rank: int
    gap: float


Attempt = tuple[TrainingRecord, str | None]
"""A record, with a thought or None."""

Judge = Callable[[Sequence[Attempt]], list[ThoughtScore]]
"""Scores attempts; all have a thought, or none has."""


def judge_dense(
    model: "T1", index: Index, *, task: str | None = None, show_progress_bar: bool = False
) -> Judge:
    """Judges by the model's embeddings of queries with their thoughts.

    The index has document embeddings of the same model; the judge raises a DataError if it lacks a
    positive. `task` names an instruction in the model's preset; a record's own replaces it.
    """

    def judge(attempts: Sequence[Attempt]) -> list[ThoughtScore]:
        vectors = _embed(model, attempts, task, show_progress_bar)
        return score_queries([record for record, _ in attempts], index, vectors)

    return judge


def judge_bm25(documents: Mapping[str, Document]) -> Judge:
    """Judges by BM25 with query and thought as one text; needs no model.

    Raises:
        DataError: no document has a term.
    """
    corpus = Collection(name="bm25", documents=tuple(documents.values()), queries=(), qrels={})
    bm25 = BM25.build(corpus)

    def judge(attempts: Sequence[Attempt]) -> list[ThoughtScore]:
        queries = [
            Query(id=str(place), text=f"{record.query} {thought or ''}")
            for place, (record, thought) in enumerate(attempts)
        ]
        excluded = {
            str(place): record.excluded | (record.positives.keys() - set(record.best_positives))
            for place, (record, _) in enumerate(attempts)
        }
        run = bm25.search(queries, _DEPTH, excluded)
        return [
            _bm25_score(run[query.id], record)
            for query, (record, _) in zip(queries, attempts, strict=True)
        ]

    return judge


def _bm25_score(scores: Mapping[str, float], record: TrainingRecord) -> ThoughtScore:
    best = max((scores.get(name, 0.0) for name in record.best_positives), default=0.0)
    others = [score for name, score in scores.items() if name not in record.best_positives]
    rank = 1 + sum(score >= best for score in others) if best else _DEPTH + 1
    best_other = max(others, default=0.0)
    return ThoughtScore(rank=rank, gap=(best - best_other) / (max(best, best_other) or 1.0))


def score_queries(
    records: Sequence[TrainingRecord], index: Index, vectors: Float[np.ndarray, "N E"]
) -> list[ThoughtScore]:
    """Scores query embeddings by the rank of their records' best positives.

    A record may occur several times.

    Raises:
        DataError: the index lacks a positive.
    """
    if not records:
        return []
    row_of = index.table.row_of
    if missing := [(r.query_id, d) for r in records for d in r.best_positives if d not in row_of]:
        raise DataError(
            f"query {missing[0][0]!r} has the positive {missing[0][1]!r}, which the index lacks",
            hint="use an index of the records' corpus",
        )
    rows = _padded([[row_of[name] for name in record.best_positives] for record in records])
    excluded = [
        [row_of[name] for name in (*record.positives, *record.excluded) if name in row_of]
        for record in records
    ]
    ranks = index.rank_of(vectors, rows, excluded=excluded)
    nearest = index.search(vectors, 1, excluded=excluded).scores[:, 0]
    units = index.table.normalize_queries(vectors)
    return [
        ThoughtScore(
            rank=int(row_ranks[row_rows >= 0].min()),
            gap=float((index.vectors[row_rows[row_rows >= 0]] @ unit).max() - other),
        )
        for row_ranks, row_rows, unit, other in zip(ranks, rows, units, nearest, strict=True)
    ]


def _embed(
    model: "T1", attempts: Sequence[Attempt], task: str | None, show_progress_bar: bool
) -> Float[np.ndarray, "N E"]:
    """Query embeddings; a query without a thought is embedded directly."""
    vectors = np.zeros((len(attempts), model.embed_dim), np.float32)
    for instruction in dict.fromkeys(record.instruction for record, _ in attempts):
        places = [i for i, (record, _) in enumerate(attempts) if record.instruction == instruction]
        thoughts = [thought for _, thought in (attempts[i] for i in places) if thought is not None]
        vectors[places] = model.encode_query(
            [attempts[i][0].query for i in places],
            query_ids=[attempts[i][0].query_id for i in places],
            thoughts=thoughts or None,
            think=bool(thoughts),
            task=None if instruction else model.known_task(task),
            instruction=instruction,
            show_progress_bar=show_progress_bar,
        )
    return vectors


def _padded(rows: Sequence[Sequence[int]]) -> Int[np.ndarray, "N R"]:
    widest = max(map(len, rows))
    return np.array([[*row, *[-1] * (widest - len(row))] for row in rows], np.int64)
