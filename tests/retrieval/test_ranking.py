import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval.ranking import rank_documents, tie_break_order, top_k_positions


def test_ties_go_by_id_descending_in_utf8():
    ids = ["10", "9", "B", "a", "é", "𝄞"]
    order = rank_documents([1.0] * 6, ids, 6)
    assert [ids[position] for position in order] == ["𝄞", "é", "a", "B", "9", "10"]


def test_scores_compare_in_float32():
    assert rank_documents([1.0, 1 + 5e-8], ["b", "a"], 2).tolist() == [0, 1]
    assert rank_documents([1.0, 1 + 6.1e-8], ["b", "a"], 2).tolist() == [1, 0]


scored = st.dictionaries(st.text(max_size=4), st.sampled_from([-1.0, 0.0, 0.5, 2.0]), max_size=12)


@given(scored, st.integers(0, 14))
def test_the_order_is_the_sorted_one(scores: dict[str, float], k: int):
    scores = {key: value for key, value in scores.items() if key.isprintable()}
    ids = list(scores)
    order = rank_documents(np.array([scores[key] for key in ids]), ids, k)
    plain = sorted(ids, key=lambda key: (scores[key], key.encode()), reverse=True)
    assert [ids[position] for position in order] == plain[:k]


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_names_its_document(bad: float):
    with pytest.raises(DataError, match="document 'b' has the score"):
        rank_documents([1.0, bad], ["a", "b"], 2)


def test_best_positions_follow_the_places_they_are_given():
    places = tie_break_order(["a", "c", "b"])
    assert places.tolist() == [2, 0, 1]
    assert top_k_positions(np.array([1.0, 1.0, 1.0]), places, 2).tolist() == [1, 2]
    assert top_k_positions(np.array([3.0, 1.0, 2.0]), places, 1).tolist() == [0]
