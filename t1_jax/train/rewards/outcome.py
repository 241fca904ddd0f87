"""Ranks and scores of a query's positives among its candidates: what retrieval rewards read.

An outcome is small however large the corpus. It comes from a score matrix (documents of the batch,
or a pool for each query) or from an index (the whole corpus); ranks are exact in both cases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from t1_jax.errors import DataError
from t1_jax.retrieval.index import Index, RowLists, unit_vectors

NUM_HARDEST = 10
"""T: number of best-scoring negatives whose scores an outcome keeps."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalOutcome:
    """Ranks and scores of the positives for P queries with G thoughts each.

    Attributes:
        positive_grades: grades of the R positives, at least one above 0; 0 is padding.
        positive_scores: cosines of thoughts and positives; 0 in padding.
        positive_ranks: 1 + the number of other candidates that score as high or higher, so that
            ties count against a collapsed embedding; −1 in padding.
        hardest_negatives: cosines of the T best-scoring negatives, best first; −inf where there are
            fewer.
        candidates: n_c, number of candidates of each query, positives included and excluded
            documents not.
    """

    positive_grades: Int[np.ndarray, "P R"]
    positive_scores: Float[np.ndarray, "P G R"]
    positive_ranks: Int[np.ndarray, "P G R"]
    hardest_negatives: Float[np.ndarray, "P G T"]
    candidates: Int[np.ndarray, " P"]

    @property
    def is_positive(self) -> Bool[np.ndarray, "P 1 R"]:
        """Which of the R positives are not padding."""
        return (self.positive_grades > 0)[:, None, :]

    @property
    def shape(self) -> tuple[int, int]:
        """(P, G)."""
        queries, thoughts, _ = self.positive_scores.shape
        return queries, thoughts


def outcome_from_scores(
    scores: Float[np.ndarray, "P G C"],
    grades: Int[np.ndarray, "P C"],
    allowed: Bool[np.ndarray, "P C"],
) -> RetrievalOutcome:
    """The outcome among C candidates, from their scores.

    Args:
        scores: cosine of each thought with each candidate.
        grades: grade of each candidate for the query; above 0 for its positives.
        allowed: which of the C are candidates of the query: False for excluded documents and for
            padding. (Unlike the mask of a contrastive loss it does not hide other positives.)

    Raises:
        DataError: a query without a positive, or a positive that is not allowed.
    """
    is_positive = grades > 0
    _require_positives(grades)
    for query in np.flatnonzero((is_positive & ~allowed).any(axis=1)).tolist():
        raise DataError(f"query {query}: a positive is not among the allowed candidates")
    parts: list[tuple[list[int], RetrievalOutcome]] = []
    # Query by query, which bounds the memory of the comparison.
    for query_scores, row, positive, candidate in zip(
        scores, grades, is_positive, allowed, strict=True
    ):
        among = np.where(candidate, query_scores, -np.inf)
        positive_scores = among[:, np.flatnonzero(positive)]
        # The positive itself counts, too: it is the 1 of the definition.
        ranks = np.sum(among[:, None, :] >= positive_scores[:, :, None], axis=2)
        outcome = RetrievalOutcome(
            positive_grades=row[None, positive],
            positive_scores=positive_scores[None],
            positive_ranks=ranks[None],
            hardest_negatives=_best(np.where(positive, -np.inf, among), NUM_HARDEST)[None],
            candidates=candidate.sum(keepdims=True),
        )
        parts.append(([len(parts)], outcome))
    return joined_outcome(parts)


def outcome_from_index(
    index: Index,
    vectors: Float[np.ndarray, "P G D"],
    positive_rows: Int[np.ndarray, "P R"],
    grades: Int[np.ndarray, "P R"],
    excluded: RowLists | None = None,
) -> RetrievalOutcome:
    """The outcome among all documents of an index.

    Ranks are exact with every back end. The hardest negatives are those that its search finds;
    ScaNN may miss some. The embeddings of the thoughts are normalized here. In padding,
    `positive_rows` is −1 and `grades` is 0. Excluded rows are not candidates.

    Raises:
        DataError: a query without a positive, a positive that is excluded, a row that the index
            does not have, or vectors that it rejects.
    """
    queries, thoughts, width = vectors.shape
    excluded_rows = [frozenset(map(int, rows)) for rows in (excluded or [()] * queries)]
    positives = [frozenset(rows[rows >= 0].tolist()) for rows in positive_rows]
    for query, (positive, outside) in enumerate(zip(positives, excluded_rows, strict=True)):
        if both := positive & outside:
            raise DataError(f"query {query}: row {min(both)} is positive and excluded")
    _require_positives(grades)
    flat = vectors.reshape(-1, width)
    ranks = index.rank_of(
        flat, positive_rows.repeat(thoughts, axis=0), _repeated(excluded_rows, thoughts)
    )
    not_negative = [a | b for a, b in zip(positives, excluded_rows, strict=True)]
    negatives = index.search(flat, NUM_HARDEST, _repeated(not_negative, thoughts)).scores
    hardest = _best(negatives, NUM_HARDEST)  # a small index returns fewer
    units = unit_vectors(flat, [f"thought {row}" for row in range(len(flat))])
    documents = index.vectors[np.maximum(positive_rows, 0)]
    scores = np.einsum("pgd,prd->pgr", units.reshape(vectors.shape), documents)
    padding = (positive_rows < 0)[:, None, :]
    return RetrievalOutcome(
        positive_grades=np.where(positive_rows < 0, 0, grades),
        positive_scores=np.where(padding, 0.0, scores),
        positive_ranks=ranks.reshape(queries, thoughts, -1),
        hardest_negatives=hardest.reshape(queries, thoughts, -1),
        candidates=np.array([len(index.ids) - len(rows) for rows in excluded_rows]),
    )


def _best(scores: Float[np.ndarray, "G C"], count: int) -> Float[np.ndarray, "G T"]:
    """The highest `count` scores of each row, best first, −inf where there are fewer."""
    padding = np.full((len(scores), count), -np.inf, scores.dtype)
    best = np.partition(np.concatenate([scores, padding], axis=1), -count, axis=1)[:, -count:]
    return -np.sort(-best, axis=1)


def joined_outcome(parts: Sequence[tuple[Sequence[int], RetrievalOutcome]]) -> RetrievalOutcome:
    """One outcome of all queries, padded to the most positives.

    Args:
        parts: indices of queries, each once over all parts, and their outcome.
    """
    most = max(outcome.positive_grades.shape[1] for _, outcome in parts)
    order = np.argsort(np.concatenate([np.asarray(members) for members, _ in parts]))

    def joined(name: str, fill: float | int | None = None) -> np.ndarray:
        arrays = [np.asarray(outcome.__dict__[name]) for _, outcome in parts]
        if fill is not None:
            widths = [[*[(0, 0)] * (a.ndim - 1), (0, most - a.shape[-1])] for a in arrays]
            arrays = [
                np.pad(array, width, constant_values=fill)
                for array, width in zip(arrays, widths, strict=True)
            ]
        return np.concatenate(arrays)[order]

    return RetrievalOutcome(
        positive_grades=joined("positive_grades", 0),
        positive_scores=joined("positive_scores", 0.0),
        positive_ranks=joined("positive_ranks", -1),
        hardest_negatives=joined("hardest_negatives"),
        candidates=joined("candidates"),
    )


def _require_positives(grades: Int[np.ndarray, "P R"]) -> None:
    for query in np.flatnonzero((grades <= 0).all(axis=1)).tolist():
        raise DataError(
            f"query {query} has no positive among its candidates",
            hint="add every query's positives to its pool",
        )


def _repeated(rows: Sequence[frozenset[int]], times: int) -> list[frozenset[int]]:
    return [row for row in rows for _ in range(times)]
