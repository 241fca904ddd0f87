import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Fusion, fuse_runs

LEXICAL = {"q": {"a": 8.0, "b": 6.0}}
DENSE = {"q": {"b": 0.9, "c": 0.5, "a": 0.1}, "r": {"c": 0.5}}


def fused(method, *, weights=None, k=3):
    return fuse_runs([LEXICAL, DENSE], k, Fusion(method=method, weights=weights))


def test_the_score_is_the_weighted_sum_of_both_scaled_scores():
    run = fuse_runs([LEXICAL, DENSE], 2)
    assert run["q"] == {"b": pytest.approx(0.6 * 0.75 + 0.4), "a": pytest.approx(0.6)}
    assert fused("convex")["q"]["c"] == pytest.approx(0.2)
    assert run["r"] == {"c": pytest.approx(0.4)}  # BM25 found nothing


def test_reciprocal_ranks():
    run = fused("rrf")
    assert list(run["q"]) == ["b", "a", "c"]
    assert run["q"] == {
        "a": pytest.approx(1 / 61 + 1 / 63),
        "b": pytest.approx(1 / 62 + 1 / 61),
        "c": pytest.approx(1 / 62),
    }
    assert fused("rrf", weights=(3.0, 1.0))["q"]["a"] == pytest.approx(3 / 61 + 1 / 63)


def test_scores_from_0_to_1():
    assert fused("minmax")["q"] == {
        "a": pytest.approx(1.0),
        "b": pytest.approx(1.0),
        "c": pytest.approx(0.5),
    }


def test_standard_deviations():
    """What a ranking lacks gets its lowest score."""
    spread = statistics.pstdev([0.9, 0.5, 0.1])
    assert fused("zscore")["q"] == {
        "a": pytest.approx(1 - 0.4 / spread),
        "b": pytest.approx(-1 + 0.4 / spread),
        "c": pytest.approx(-1),
    }


def test_equal_scores_are_ranked_as_in_trec_eval():
    equal = {"q": {"a": 1.0, "b": 1.0}}
    assert list(fuse_runs([{}, equal], 2)["q"]) == ["b", "a"]
    assert fuse_runs([{}, {"q": {}}], 2) == {"q": {}}


def test_queries_of_any_run_are_ranked():
    assert fuse_runs([{"p": {"a": 1.0}}, {"q": {"a": 1.0}}], 2, Fusion(method="rrf")) == {
        "q": {"a": pytest.approx(1 / 61)},
        "p": {"a": pytest.approx(1 / 61)},
    }


scores = st.dictionaries(st.sampled_from("abcdef"), st.floats(-1e3, 1e3, width=32), max_size=6)


@given(
    st.lists(scores, min_size=2, max_size=4),
    st.sampled_from(["rrf", "minmax", "zscore"]),
    st.floats(0.125, 8.0, width=32),
)
def test_scale_and_offset_of_a_run_do_not_matter(rankings, method, scale):
    runs = [{"q": ranking} for ranking in rankings]
    # Powers of two keep the scaled scores the same to the last bit.
    power = 2.0 ** round(scale)
    moved = [{"q": {k: v * power for k, v in ranking.items()}} for ranking in rankings]
    run, again = (fuse_runs(some, 6, Fusion(method=method)) for some in (runs, moved))
    assert run["q"] == pytest.approx(again["q"])
    assert set(run["q"]) == {name for ranking in rankings for name in ranking}


def test_mistakes():
    with pytest.raises(ConfigError, match="2 weights for 3 rankings"):
        fuse_runs([LEXICAL, DENSE, DENSE], 2, Fusion(method="rrf", weights=(1.0, 2.0)))
    with pytest.raises(DataError, match="at least two rankings, got 1"):
        fuse_runs([LEXICAL], 2)
    with pytest.raises(ConfigError, match="weights must be above 0"):
        Fusion(weights=(1.0, 0.0))
