from dataclasses import replace

import numpy as np
import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import Document, build_index
from t1_jax.train.data import TrainingRecord
from t1_jax.train.thoughts import judge_bm25, score_queries

IDS = ["a", "b", "c", "d"]
INDEX = build_index("numpy", IDS, np.eye(4))
TEXTS = {
    "ink": "Squids squirt ink",
    "cat": "A cat purrs",
    "lion": "A cat that roars at night",
    "sea": "Waves",
}


def test_a_score_is_of_the_best_grade_and_against_neither_right_nor_excluded():
    record = TrainingRecord(
        query_id="q", query="x", positives={"a": 1, "b": 2, "c": 2}, excluded=frozenset({"d"})
    )
    assert score_queries([], INDEX, np.zeros((0, 4), np.float32)) == []
    alone, open_ = score_queries(
        [record, replace(record, excluded=frozenset())], INDEX, np.array([[9.0, 1, 3, 4]] * 2)
    )
    assert (alone.rank, open_.rank) == (1, 2)  # only d stands before c
    assert open_.gap == pytest.approx((3 - 4) / np.sqrt(107))


def test_a_positive_that_the_index_lacks_is_named():
    record = TrainingRecord(query_id="q", query="x", positives={"z": 1})
    with pytest.raises(DataError, match="the positive 'z', which the index lacks"):
        score_queries([record], INDEX, np.ones((1, 4)))


def test_words_of_query_and_thought_together_find_the_positive():
    judge = judge_bm25({name: Document(id=name, text=text) for name, text in TEXTS.items()})
    record = TrainingRecord(query_id="q", query="Which cat is loud?", positives={"lion": 2})
    none, good, vague = judge([(record, None), (record, "It roars."), (record, "It purrs.")])
    assert (none.rank, good.rank, vague.rank) == (2, 1, 2)  # the shorter text wins a tie of words
    assert good.gap > 0 > none.gap > vague.gap >= -1
    (lesser,) = judge([(replace(record, positives={"lion": 2, "cat": 1}), "It purrs.")])
    (excluded,) = judge([(replace(record, excluded=frozenset({"cat"})), "It purrs.")])
    assert lesser == excluded
    assert (lesser.rank, lesser.gap) == (1, 1.0)
    (unknown,) = judge([(replace(record, query="Zebra"), "with ink")])
    assert (unknown.rank, unknown.gap) == (1001, -1.0)
    (nothing,) = judge([(replace(record, query="Zebra"), None)])
    assert (nothing.rank, nothing.gap) == (1001, 0.0)
