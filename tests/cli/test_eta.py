import numpy as np
import pytest

from t1_jax.cli import eta as countdown_module
from t1_jax.cli.embedding_cache import RememberedDocuments
from t1_jax.cli.eta import Countdown, Step, in_words, plan_collection
from t1_jax.evaluate import EvaluationConfig
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import Collection, Document, Query


class Clock:
    """Time that passes only when a model works."""

    def __init__(self) -> None:
        self.now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Model(RememberedDocuments):
    """Takes a second for documents, two for thoughts, half a second to read."""

    def __init__(self, clock: Clock, remembered: bool = False) -> None:
        self.clock = clock
        self.remembered = remembered

    def encode_document(self, texts, **how):
        self.clock.now += 1.0
        return np.zeros((1, 2), np.float32)

    def encode_query(self, texts, *, think, thoughts, **how):
        self.clock.now += 2.0 if think and thoughts is None else 0.5
        return "queries"

    def remembers(self, ids, texts):
        return self.remembered


COLLECTION = Collection(
    name="pets",
    documents=tuple(Document(id=f"d{i}", text="x" * 40) for i in range(10)),
    queries=tuple(Query(id=f"q{i}", text="why" * 4) for i in range(6)),
    qrels={f"q{i}": {"d1": 1} for i in range(6)},
)


def test_the_plan_is_what_an_evaluation_does():
    config = EvaluationConfig(max_thought_tokens=10, max_queries=4)
    steps = plan_collection(Model(Clock()), COLLECTION, config)
    assert [step.kind for step in steps] == ["document", "think", *["read"] * 5]
    assert steps[0].what == "pets: 1 documents"  # ten equal texts are encoded once
    assert steps[1].tokens == 4 * 10
    few = EvaluationConfig(controls=("no-think", "random"), n=2,
                           sampling=SamplingParams(temperature=1.0))  # fmt: skip
    kinds = [step.kind for step in plan_collection(Model(Clock()), COLLECTION, few)]
    assert kinds == ["document", "read", "think", "read", "read"]
    steps = plan_collection(Model(Clock(), remembered=True), COLLECTION, config)
    assert steps[0].tokens == 0
    assert "remembered" in steps[0].what


def test_the_estimate_follows_what_was_measured(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(countdown_module, "time", clock)
    steps = [
        Step(kind="document", what="documents", tokens=100.0),
        Step(kind="think", what="thoughts", tokens=30.0),
        Step(kind="read", what="control", tokens=50.0),
        Step(kind="document", what="more documents", tokens=200.0),
    ]
    said: list[str] = []
    model = Countdown(Model(clock), steps, said.append)
    assert model.seconds_left() is None
    assert model.encode_document(["x"]).shape == (1, 2)
    # 100 tokens/s to read, a third of that to think: 30 / 33.3 + 50 / 100 + 200 / 100
    assert model.seconds_left() == pytest.approx(0.9 + 0.5 + 2.0)
    model.encode_query(["x"], n=1)
    assert model.seconds_left() == pytest.approx(0.5 + 2.0)
    model.encode_query(["x"], thoughts=["y"])
    model.encode_document(["x"])
    assert model.seconds_left() == 0
    assert said[0] == "[1/4] documents"
    assert said[1] == "[2/4] thoughts   about 3 s left in all"
    assert said[3].startswith("[4/4] more documents")


def test_durations_in_words():
    assert [in_words(s) for s in (4.2, 89.0, 420.0, 7500.0)] == [
        "4 s",
        "89 s",
        "7 min",
        "2 h 05 min",
    ]
