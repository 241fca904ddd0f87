"""Standings against a plain ranking, from scores and from every index that is exact."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval import EmbeddingTable
from t1_jax.retrieval.index import Index
from t1_jax.retrieval.index.jax_index import JaxIndex
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.train.rewards import RetrievalOutcome, outcome_from_index, outcome_from_scores
from t1_jax.train.rewards.builtin import log_rank_reward
from tests.train.rewards.toys import context

P, G, C, D = 3, 2, 17, 4


def problem(seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Thoughts and documents on a coarse grid, so that scores tie; grades; candidates."""
    rng = np.random.default_rng(seed)
    thoughts = rng.integers(-2, 3, (P, G, D)).astype(np.float32)
    documents = rng.integers(-2, 3, (C, D)).astype(np.float32)
    thoughts[..., 0] += 5
    documents[:, 1] += 5
    grades = np.where(rng.random((P, C)) < 0.2, rng.integers(1, 3, (P, C)), 0)
    grades[:, 0] = 1
    allowed = (rng.random((P, C)) < 0.8) | (grades > 0)
    unit = [each / np.linalg.norm(each, axis=-1, keepdims=True) for each in (thoughts, documents)]
    return unit[0], unit[1], grades, allowed


def check(
    found: RetrievalOutcome, scores: np.ndarray, grades: np.ndarray, allowed: np.ndarray
) -> None:
    """Compares with one pass over the candidates for each positive."""
    assert found.shape == (P, G)
    for p, g in np.ndindex(P, G):
        columns = [c for c in range(C) if grades[p, c] > 0]
        ranks = [
            1
            + sum(scores[p, g, o] >= scores[p, g, c] for o in range(C) if o != c and allowed[p, o])
            for c in columns
        ]
        negatives = sorted(
            (scores[p, g, c] for c in range(C) if allowed[p, c] and c not in columns), reverse=True
        )[:10]
        padding = found.positive_grades.shape[1] - len(columns)
        assert found.positive_grades[p].tolist() == [*grades[p, columns], *[0] * padding]
        assert found.positive_ranks[p, g].tolist() == [*ranks, *[-1] * padding]
        own = [*scores[p, g, columns], *[0.0] * padding]
        np.testing.assert_allclose(found.positive_scores[p, g], own, atol=1e-6)
        hardest = np.array([*negatives, *[-np.inf] * (10 - len(negatives))])
        np.testing.assert_allclose(found.hardest_negatives[p, g], hardest, atol=1e-6)
    assert found.candidates.tolist() == allowed.sum(axis=1).tolist()


@given(seed=st.integers(0, 2**32 - 1))
def test_from_scores(seed: int):
    thoughts, documents, grades, allowed = problem(seed)
    scores = np.einsum("pgd,cd->pgc", thoughts, documents)
    check(outcome_from_scores(scores, grades, allowed), scores, grades, allowed)


@pytest.mark.parametrize("back_end", [NumpyIndex, JaxIndex])
def test_from_an_index(back_end: type[Index]):
    for seed in range(5):
        thoughts, documents, grades, allowed = problem(seed)
        index = back_end(EmbeddingTable.from_vectors([f"d{c:02}" for c in range(C)], documents))  # pyright: ignore[reportCallIssue]
        rows = [np.flatnonzero(each).tolist() for each in grades]
        most = max(map(len, rows))
        table = np.array([[*each, *[-1] * (most - len(each))] for each in rows])
        of_rows = np.where(table < 0, 0, np.take_along_axis(grades, np.maximum(table, 0), axis=1))
        excluded = [np.flatnonzero(~each).tolist() for each in allowed]
        found = outcome_from_index(index, 3 * thoughts, table, of_rows, excluded)
        # Scores as the index itself sums them: another order of addition would untie ties.
        scores = np.stack([prompt @ index.vectors.T for prompt in thoughts])
        by_index = outcome_from_scores(scores, grades, allowed)
        np.testing.assert_allclose(found.positive_scores, by_index.positive_scores, atol=1e-6)
        np.testing.assert_allclose(found.hardest_negatives, by_index.hardest_negatives, atol=1e-6)
        assert found.positive_grades.tolist() == by_index.positive_grades.tolist()
        assert found.candidates.tolist() == by_index.candidates.tolist()
        for p, g, r in np.argwhere(found.positive_ranks >= 0).tolist():
            own = scores[p, g, table[p, r]]
            others = np.delete(np.where(allowed[p], scores[p, g], -2), table[p, r])
            least, most_ = (1 + np.sum(others >= own + shift) for shift in (1e-5, -1e-5))
            assert least <= found.positive_ranks[p, g, r] <= most_


def test_a_collapsed_embedding_ranks_last():
    equal = np.full((1, 2, 50), 0.9, np.float32)
    grades = np.zeros((1, 50), int)
    grades[0, 7] = 1
    allowed = np.ones((1, 50), bool)
    allowed[0, 40:] = False
    found = outcome_from_scores(equal, grades, allowed)
    assert found.positive_ranks.tolist() == [[[40], [40]]]
    table = EmbeddingTable.from_vectors([str(c) for c in range(50)], np.ones((50, 3), np.float32))
    by_index = outcome_from_index(
        NumpyIndex(table),
        np.ones((1, 2, 3), np.float32),
        np.array([[7]]),
        np.array([[1]]),
        [range(40, 50)],
    )
    assert by_index.positive_ranks.tolist() == [[[40], [40]]]
    for each in (found, by_index):
        np.testing.assert_allclose(log_rank_reward(context(each)), 0, atol=1e-12)


def test_excluded_documents_do_not_count():
    scores = np.array([[[0.9, 0.5, 0.8, 0.1]]])
    grades = np.array([[0, 1, 0, 0]])
    everyone = np.ones((1, 4), bool)
    assert outcome_from_scores(scores, grades, everyone).positive_ranks.item() == 3
    found = outcome_from_scores(scores, grades, everyone & (np.arange(4) != 0))
    assert (found.positive_ranks.item(), found.candidates.item()) == (2, 3)
    assert found.hardest_negatives[0, 0, :3].tolist() == [0.8, 0.1, -np.inf]


def test_a_prompt_needs_an_allowed_positive():
    scores, everyone = np.zeros((2, 1, 3)), np.ones((2, 3), bool)
    with pytest.raises(DataError, match="query 1 has no positive"):
        outcome_from_scores(scores, np.array([[1, 0, 0], [0, 0, 0]]), everyone)
    grades = np.array([[1, 0, 0], [0, 1, 0]])
    with pytest.raises(DataError, match="query 1: a positive is not among the allowed"):
        outcome_from_scores(scores, grades, ~(grades > 0) | np.array([[True], [False]]))
    index = NumpyIndex(EmbeddingTable.from_vectors(["a", "b"], np.eye(2, dtype=np.float32)))
    vectors = np.ones((1, 1, 2), np.float32)
    with pytest.raises(DataError, match="row 1 is positive and excluded"):
        outcome_from_index(index, vectors, np.array([[1]]), np.array([[1]]), [[1]])
    with pytest.raises(DataError, match="query 0 has no positive"):
        outcome_from_index(index, vectors, np.array([[-1]]), np.array([[0]]))
