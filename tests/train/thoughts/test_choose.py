from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.retrieval import Document, build_index
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts import choose_thoughts, judge_dense

IDS = ["a", "b", "c", "d"]
INDEX = build_index("numpy", IDS, np.eye(4))
VECTORS = {
    "good": [3.0, 1.0, 0.0, 0.0],
    "better": [4.0, 1.0, 0.0, 0.0],
    "bad": [0.0, 1.0, 0.5, 0.2],
    "": [1.0, 2.0, 0.0, 0.0],
}


class FakeModel:
    """Embeds the word that a thought is."""

    embed_dim = 4

    def known_task(self, task: str | None) -> str | None:
        return task

    def encode_query(self, texts: list[str], **how: Any) -> np.ndarray:
        assert how["think"] == (how["thoughts"] is not None)
        return np.array([VECTORS[t] for t in how["thoughts"] or [""] * len(texts)], np.float32)


def data(*thoughts: str, **positives: int) -> TrainingSet:
    record = TrainingRecord(
        query_id="q", query="which?", positives=positives or {"a": 1}, thoughts=thoughts
    )
    other = replace(record, query_id="r", thoughts=(), instruction="Find it")
    return TrainingSet(
        name="s",
        records=(record, other),
        documents={name: Document(id=name, text=name) for name in IDS},
    )


def chosen(given: TrainingSet, **how: Any):
    judge = judge_dense(FakeModel(), INDEX)  # pyright: ignore[reportArgumentType]
    return choose_thoughts(given, judge, **how)


def test_the_best_thoughts_are_kept_best_first():
    given = data("bad", "good", "better")
    (kept, other), report = chosen(given, keep=2)
    assert kept == replace(given.records[0], thoughts=("better", "good"))
    assert other == given.records[1]
    assert (report.records, report.thoughts, report.kept) == (1, 3, 2)
    assert (report.first, report.helped, report.hurt) == (1, 1, 0)
    assert report.chosen == {2: 1}
    assert report.mean_reciprocal_rank["none"] == pytest.approx(1 / 2)
    assert report.mean_reciprocal_rank["mean"] == pytest.approx((1 + 1 + 1 / 4) / 3)
    assert report.mean_reciprocal_rank["best"] == 1.0


def test_thoughts_that_are_worse_than_none_can_be_dropped():
    (kept, _), report = chosen(data("bad"), only_helpful=True)
    assert kept.thoughts == ()
    assert (report.hurt, report.kept) == (1, 0)
    assert chosen(data("bad"))[0][0].thoughts == ("bad",)


def test_a_copy_of_the_positive_is_no_rival():
    """The thought "bad" is nearest to b; where b says what the positive c says, c ranks first."""
    given = data("bad", c=1)
    assert chosen(given)[1].first == 0
    copies = {**given.documents, "b": Document(id="b", text="C")}
    assert chosen(replace(given, documents=copies))[1].first == 1


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="keep must be at least 1"):
        chosen(data("good"), keep=0)
