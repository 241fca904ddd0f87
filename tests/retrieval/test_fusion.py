import pytest

from t1_jax.retrieval import reciprocal_rank_fusion


def test_the_score_is_the_sum_of_reciprocal_ranks():
    lexical = {"q": {"a": 9.0, "b": 5.0}, "r": {}}
    dense = {"q": {"b": 0.9, "c": 0.8, "a": 0.1}, "r": {"c": 0.5}}
    fused = reciprocal_rank_fusion([lexical, dense], 2)
    assert list(fused["q"]) == ["b", "a"]
    assert fused["q"]["b"] == pytest.approx(1 / 62 + 1 / 61)
    assert fused["q"]["a"] == pytest.approx(1 / 61 + 1 / 63)
    assert fused["r"] == {"c": pytest.approx(1 / 61)}


def test_ranks_and_ties_are_those_of_trec_eval():
    tied = {"q": {"a": 1.0, "b": 1.0}}
    assert list(reciprocal_rank_fusion([tied], 2)["q"]) == ["b", "a"]
