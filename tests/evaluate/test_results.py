import dataclasses

import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate import (
    Evaluation,
    EvaluationConfig,
    ModelFacts,
    evaluate_collection,
    intervals,
    paired_difference,
)
from t1_jax.evaluate.results import ranking
from t1_jax.retrieval import Collection
from tests.evaluate.toys import LetterModel


def test_intervals_are_those_of_the_rows_values(evaluation: Evaluation):
    for row in evaluation.rows:
        for metric, values in row.values.items():
            (alone,) = intervals(values[:, None], samples=200, seed=0)
            found = evaluation.intervals[row.name][metric]
            assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(alone))
            assert found.mean == pytest.approx(np.mean(values))


def test_a_comparison_is_that_of_the_rows_values(evaluation: Evaluation):
    own, without = evaluation.row("t1-own"), evaluation.row("t1-no-think")
    found = evaluation.compare(own, without, "MRR")
    alone = paired_difference(own.values["MRR"], without.values["MRR"], samples=200, seed=0)
    assert dataclasses.astuple(found) == pytest.approx(dataclasses.astuple(alone))


def test_the_best_row_has_not_seen_the_answers(evaluation: Evaluation):
    gold = evaluation.row("t1-gold")
    best = evaluation.best_row("nDCG@10")
    assert gold.oracle
    assert gold.values["nDCG@10"].mean() >= best.values["nDCG@10"].mean()
    honest = [row.values["nDCG@10"].mean() for row in evaluation.rows if not row.oracle]
    assert best.values["nDCG@10"].mean() == max(honest)


def test_thinking_is_summed_over_the_thoughts_that_were_drawn(evaluation: Evaluation):
    facts = evaluation.row("t1-own").thinking
    assert facts is not None
    assert (facts.thoughts, facts.tokens, facts.mean_tokens) == (3, 9, 3)
    assert facts.truncated_frac == pytest.approx(1 / 3)
    assert evaluation.row("t1-random").thinking is None
    assert evaluation.row("bm25").thinking is None


def test_an_unknown_row_names_those_there_are(evaluation: Evaluation):
    with pytest.raises(ConfigError, match="bm25, t1-own"):
        evaluation.row("t1-think")


def test_a_ranking_goes_by_score_and_then_by_id_descending():
    assert ranking({"a": 1.0, "b": 2.0, "c": 1.0}) == ["b", "c", "a"]


def test_another_checkpoint_joins_as_more_rows(
    evaluation: Evaluation,
    collection: Collection,
    config: EvaluationConfig,
    facts: ModelFacts,
):
    later = evaluate_collection(LetterModel(), collection, config, facts=facts, system="Stage2")
    joined = evaluation.joined_with([later])
    assert len(joined.rows) == 13
    assert [system.name for system in joined.systems] == ["T1", "Stage2"]
    assert joined.control("own") is evaluation.row("t1-own")
    assert joined.control("own", "Stage2") is later.row("stage2-own")
    difference = joined.compare(joined.row("stage2-own"), joined.row("t1-own"), "nDCG@10")
    gains = later.row("stage2-own").values["nDCG@10"] - evaluation.row("t1-own").values["nDCG@10"]
    assert difference.difference == pytest.approx(gains.mean())


def test_what_cannot_be_compared_does_not_join(
    evaluation: Evaluation,
    model: LetterModel,
    collection: Collection,
    config: EvaluationConfig,
    facts: ModelFacts,
):
    with pytest.raises(DataError, match="two evaluations have a row 't1-own'"):
        evaluation.joined_with([evaluation])
    fewer = dataclasses.replace(config, max_queries=2)
    with pytest.raises(DataError, match="different queries"):
        evaluation.joined_with([evaluate_collection(model, collection, fewer, facts=facts)])
    judged = dataclasses.replace(collection, qrels={**collection.qrels, "q2": {"car": 1}})
    with pytest.raises(DataError, match="different qrels"):
        evaluation.joined_with([evaluate_collection(model, judged, config, facts=facts)])
