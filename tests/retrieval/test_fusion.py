import pytest

from t1_jax.retrieval import fuse_runs


def test_the_score_is_the_weighted_sum_of_both_scaled_scores():
    lexical = {"q": {"a": 8.0, "b": 6.0}}
    dense = {"q": {"b": 0.9, "c": 0.5, "a": 0.1}, "r": {"c": 0.5}}
    fused = fuse_runs(lexical, dense, 2)
    assert fused["q"] == {"b": pytest.approx(0.6 * 0.75 + 0.4), "a": pytest.approx(0.6)}
    assert fuse_runs(lexical, dense, 3)["q"]["c"] == pytest.approx(0.2)
    assert fused["r"] == {"c": 0.4}  # BM25 found nothing


def test_equal_scores_are_ranked_as_in_trec_eval():
    equal = {"q": {"a": 1.0, "b": 1.0}}
    assert list(fuse_runs({}, equal, 2)["q"]) == ["b", "a"]
    assert fuse_runs({}, {"q": {}}, 2) == {"q": {}}
