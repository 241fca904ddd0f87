import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import mean, rank_documents, score_run

QRELS = {"q": {"a": 2, "b": 1, "c": 0}}


def test_values_worked_by_hand():
    scores = score_run(
        {"q": {"x": 3.0, "a": 2.0, "b": 1.0}},
        QRELS,
        metrics=["nDCG@10", "recall@2", "P@2", "MRR", "MAP"],
    )
    found = {measure: scores.mean(measure) for measure in scores.per_query}
    ideal = 2 + 1 / math.log2(3)
    assert found == pytest.approx(
        {
            "nDCG@10": (2 / math.log2(3) + 1 / 2) / ideal,
            "recall@2": 1 / 2,
            "P@2": 1 / 2,
            "MRR": 1 / 2,
            "MAP": (1 / 2 + 2 / 3) / 2,
        }
    )


def test_a_missing_query_counts_zero_and_is_reported():
    qrels = {"q": {"a": 1}, "gone": {"a": 1}, "empty": {"a": 1}}
    scores = score_run({"q": {"a": 1.0}, "empty": {}}, qrels)
    assert scores.per_query["nDCG@10"] == {"q": 1.0, "gone": 0.0, "empty": 0.0}
    assert scores.mean("nDCG@10") == pytest.approx(1 / 3)
    assert scores.missing == ("gone", "empty")


def test_a_run_without_any_result_scores_zero():
    scores = score_run({}, {"q": {"a": 1}})
    assert scores.mean("MAP") == 0.0


def test_queries_without_a_relevant_document_and_without_judgments_are_set_apart():
    scores = score_run(
        {"q": {"a": 1.0}, "zero": {"a": 1.0}, "new": {"a": 1.0}},
        {"q": {"a": 1}, "zero": {"a": 0, "b": -1}},
    )
    assert scores.without_relevant == ("zero",)
    assert scores.without_qrels == ("new",)
    assert list(scores.per_query["MRR"]) == ["q"]
    with pytest.raises(DataError, match="nothing to score"):
        score_run({}, {"zero": {"a": 0}})


def test_a_label_that_would_fill_the_memory_is_refused():
    with pytest.raises(
        DataError, match="query 'q' has the relevance label 1000000000, above 999999"
    ):
        score_run({"q": {"a": 1.0}}, {"q": {"a": 10**9}})


def test_a_negative_grade_is_worth_nothing_as_in_trec_eval():
    run = {"q": {"bad": 3.0, "good": 2.0, "fair": 1.0}}
    scores = score_run(
        run,
        {"q": {"good": 2, "bad": -1, "fair": 1}},
        metrics=["nDCG@10", "MAP", "P@2", "recall@2"],
    )
    ideal = 2 + 1 / np.log2(3)
    assert scores.mean("nDCG@10") == pytest.approx((2 / np.log2(3) + 1 / 2) / ideal, abs=1e-6)
    assert scores.mean("MAP") == pytest.approx((1 / 2 + 2 / 3) / 2, abs=1e-6)
    assert (scores.mean("P@2"), scores.mean("recall@2")) == (0.5, 0.5)


@pytest.mark.parametrize("bad", [math.nan, math.inf, np.float32("nan"), 1e39])
def test_scores_that_are_not_finite_name_query_and_document(bad):
    with pytest.raises(DataError, match="query 'q': document 'a' has the score"):
        score_run({"q": {"a": bad, "b": 1.0}}, QRELS)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.int64, int, float])
def test_any_real_number_is_a_score(kind):
    scores = score_run({"q": {"a": kind(1), "x": kind(2)}}, QRELS)
    assert scores.mean("MRR") == 0.5


def test_excluded_documents_leave_before_the_cut():
    run = {"q": {"x": 3.0, "y": 2.0, "a": 1.0}}
    assert score_run(run, QRELS, depth=1).mean("MRR") == 0.0
    excluded = {"q": frozenset({"x", "y", "not in the run"})}
    assert score_run(run, QRELS, depth=1, excluded=excluded).mean("MRR") == 1.0


def test_ties_are_broken_as_documents_are_ranked():
    scores = score_run({"q": {"a": 1.0, "z": 1.0}}, QRELS, metrics=["MRR"])
    assert scores.mean("MRR") == 0.5


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.sampled_from([0.0, 1.0, 2.0]), min_size=1))
def test_reciprocal_rank_agrees_with_our_own_order(scores: dict[str, float]):
    ids = list(scores)
    order = [ids[position] for position in rank_documents(list(scores.values()), ids, len(ids))]
    expected = 1 / (1 + order.index("d")) if "d" in scores else 0.0
    found = score_run({"q": scores}, {"q": {"d": 1}}, metrics=["MRR"]).mean("MRR")
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("measure", ["ndcg@10", "nDCG", "recall@0", "P@ten", "MRR@10", ""])
def test_unknown_measures_are_named_with_the_known(measure: str):
    with pytest.raises(ConfigError, match="use one of nDCG@k, recall@k, P@k, MAP@k, MRR, MAP"):
        score_run({}, QRELS, metrics=[measure])


def test_a_mean_needs_a_value():
    assert mean([1.0, 2.0]) == 1.5
    with pytest.raises(DataError, match="zero queries"):
        mean([])
