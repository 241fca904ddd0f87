"""Where the positives of a query stand among its candidates: all that retrieval rewards need.

A standing is small however large the corpus. It comes from a matrix of scores (documents of the
batch, or a pool for each query) or from an index (the whole corpus); both count exactly.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from t1_jax.errors import DataError
from t1_jax.retrieval.index import Index, RowLists, unit_vectors

HARDEST = 10
"""T: of how many best-scoring negatives a standing keeps the scores."""


@dataclass(frozen=True, kw_only=True, eq=False)
class RetrievalOutcome:
    """Where each thought puts the positives of its query.

    Attributes:
        positive_grades: R grades for each prompt, at least one above 0; 0 where there is none.
        positive_scores: cosines of thoughts and positives; 0 where there is none.
        positive_ranks: 1 + the number of other candidates that score as high or higher, so that
            ties count against a collapsed embedding; −1 where there is none.
        hardest_negatives: cosines of the T best-scoring candidates that are no positives, best
            first; −inf where there are fewer.
        candidates: n_c of each prompt, its positives included; excluded documents are none.
    """

    positive_grades: Int[np.ndarray, "P R"]
    positive_scores: Float[np.ndarray, "P G R"]
    positive_ranks: Int[np.ndarray, "P G R"]
    hardest_negatives: Float[np.ndarray, "P G T"]
    candidates: Int[np.ndarray, " P"]

    @property
    def is_positive(self) -> Bool[np.ndarray, "P 1 R"]:
        """Which of the R places hold a positive."""
        return (self.positive_grades > 0)[:, None, :]

    @property
    def shape(self) -> tuple[int, int]:
        """P prompts, G thoughts each."""
        prompts, thoughts, _ = self.positive_scores.shape
        return prompts, thoughts


def outcome_from_scores(
    scores: Float[np.ndarray, "P G C"],
    grades: Int[np.ndarray, "P C"],
    allowed: Bool[np.ndarray, "P C"],
) -> RetrievalOutcome:
    """The standing among C candidates, by counting.

    Args:
        scores: cosines of each thought with each candidate.
        grades: of each candidate for the prompt; above 0 for its positives.
        allowed: which of the C are candidates of the prompt at all: False for excluded documents
            and for padding. (Not the mask of a contrastive loss, which hides other positives.)

    Raises:
        DataError: a prompt without a positive, or a positive that is not allowed.
    """
    is_positive = grades > 0
    for prompt in np.flatnonzero((is_positive & ~allowed).any(axis=1)).tolist():
        raise DataError(f"prompt {prompt}: a positive is not among the allowed candidates")
    parts = []
    # Prompt by prompt, which bounds the memory that comparing takes.
    for rows, own, real in zip(scores, is_positive, allowed, strict=True):
        columns = np.flatnonzero(own)
        among = np.where(real, rows, -np.inf)
        ours = among[:, columns]
        ranks = np.sum(among[:, None, :] >= ours[:, :, None], axis=2)  # itself is the 1
        parts.append((ours, ranks, _best(np.where(own, -np.inf, among), HARDEST)))
    return _joined([grades[p][is_positive[p]] for p in range(len(grades))], parts, allowed.sum(1))


def outcome_from_index(
    index: Index,
    vectors: Float[np.ndarray, "P G D"],
    positive_rows: Int[np.ndarray, "P R"],
    grades: Int[np.ndarray, "P R"],
    excluded: RowLists | None = None,
) -> RetrievalOutcome:
    """The standing among all documents of an index.

    Ranks are exact with every back end. The hardest negatives are those its search finds, which
    with ScaNN may miss some.

    Args:
        index: documents of one version.
        vectors: of the thoughts; normalized here.
        positive_rows: rows of each prompt's positives; −1 for none.
        grades: of those rows, above 0; 0 for none.
        excluded: for each prompt the rows that are no candidates.

    Raises:
        DataError: a prompt without a positive, a positive that is excluded, a row that the index
            does not have, or vectors that it refuses.
    """
    prompts, thoughts, width = vectors.shape
    excluded_rows = [frozenset(map(int, rows)) for rows in (excluded or [()] * prompts)]
    own = [frozenset(rows[rows >= 0].tolist()) for rows in positive_rows]
    for prompt, (ours, outside) in enumerate(zip(own, excluded_rows, strict=True)):
        if ours & outside:
            raise DataError(f"prompt {prompt}: row {min(ours & outside)} is positive and excluded")
    _require_positives(grades)
    flat = vectors.reshape(-1, width)
    ranks = index.rank_of(
        flat, positive_rows.repeat(thoughts, axis=0), _repeated(excluded_rows, thoughts)
    )
    hidden = [ours | outside for ours, outside in zip(own, excluded_rows, strict=True)]
    found = index.search(flat, HARDEST, _repeated(hidden, thoughts)).scores
    hardest = _best(found, HARDEST)  # a small index finds fewer
    units = unit_vectors(flat, [f"thought {row}" for row in range(len(flat))])
    documents = index.vectors[np.maximum(positive_rows, 0)]
    scores = np.einsum("pgd,prd->pgr", units.reshape(vectors.shape), documents)
    none = (positive_rows < 0)[:, None, :]
    return RetrievalOutcome(
        positive_grades=np.where(positive_rows < 0, 0, grades),
        positive_scores=np.where(none, 0.0, scores),
        positive_ranks=ranks.reshape(prompts, thoughts, -1),
        hardest_negatives=hardest.reshape(prompts, thoughts, -1),
        candidates=np.array([len(index.ids) - len(rows) for rows in excluded_rows]),
    )


def _best(scores: Float[np.ndarray, "G C"], count: int) -> Float[np.ndarray, "G T"]:
    """The highest `count` scores of each row, best first, −inf where there are fewer."""
    padding = np.full((len(scores), count), -np.inf, scores.dtype)
    best = np.partition(np.concatenate([scores, padding], axis=1), -count, axis=1)[:, -count:]
    return -np.sort(-best, axis=1)


def _joined(
    grades: Sequence[np.ndarray],
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]],
    candidates: Int[np.ndarray, " P"],
) -> RetrievalOutcome:
    """Prompts with different numbers of positives, padded to the most."""
    most = max(len(each) for each in grades)
    table = np.stack([np.pad(each, (0, most - len(each))) for each in grades])
    _require_positives(table)

    def padded(values: np.ndarray, fill: float | int) -> np.ndarray:
        return np.pad(values, ((0, 0), (0, most - values.shape[1])), constant_values=fill)

    return RetrievalOutcome(
        positive_grades=table,
        positive_scores=np.stack([padded(scores, 0.0) for scores, _, _ in parts]),
        positive_ranks=np.stack([padded(ranks, -1) for _, ranks, _ in parts]),
        hardest_negatives=np.stack([hardest for _, _, hardest in parts]),
        candidates=candidates,
    )


def _require_positives(grades: Int[np.ndarray, "P R"]) -> None:
    for prompt in np.flatnonzero((grades <= 0).all(axis=1)).tolist():
        raise DataError(
            f"prompt {prompt} has no positive among its candidates",
            hint="every query's positives belong into its pool",
        )


def _repeated(rows: Sequence[frozenset[int]], times: int) -> list[frozenset[int]]:
    return [each for each in rows for _ in range(times)]
