"""Validation equals an evaluation by hand, and leaves nothing half done."""

import math

import numpy as np
import pytest

from t1_jax.interrupt import Interrupted
from t1_jax.retriever import T1
from t1_jax.train import validate as module
from t1_jax.train.config import ValidationConfig
from t1_jax.train.infra import GracefulStop
from t1_jax.train.validate import Validation, validate
from tests.train.toy_runs import S1
from tests.train.toy_stages import ToyStages

CONFIG = ValidationConfig(max_thought_tokens=4)


@pytest.fixture(scope="module")
def model(toy: ToyStages) -> T1:
    lengths = toy.config(S1).data.lengths
    options = toy.student.retriever_options(lengths, max_rows=8, max_thought_tokens=4)
    return toy.student.retriever(toy.weights(), options)


def measure(model: T1, toy: ToyStages, **arguments) -> Validation:
    return validate(
        model, toy.data.validation, CONFIG, **{"think": True, "samples": 2, **arguments}
    )


@pytest.mark.parametrize("think", [True, False])
def test_it_is_ndcg_of_the_whole_corpus(model, toy, think):
    found = measure(model, toy, think=think)
    zoo = toy.data.validation["zoo"]
    documents = model.encode_document([document.full_text for document in zoo.documents])
    gains = []
    for query in zoo.queries:
        vector = model.encode_query(
            query.text,
            query_ids=[query.id],
            think=think,
            max_thought_tokens=4 if think else None,
            sampling=module.SamplingParams(temperature=0.0),
        )
        scores = documents @ vector
        (gold,) = zoo.qrels[query.id]
        own = scores[[document.id for document in zoo.documents].index(gold)]
        gains.append(1 / math.log2(1 + int((scores >= own).sum())))
    assert found.metrics["validation/zoo/ndcg@10"] == pytest.approx(np.mean(gains), abs=1e-6)
    assert found.metrics["validation/ndcg@10"] == found.metrics["validation/zoo/ndcg@10"]
    assert ("validation/length" in found.metrics) == think
    assert [sample["query_id"] for sample in found.samples] == [
        query.id for query in zoo.queries[:2]
    ]
    assert found.samples[0]["of"] == "validation"


def test_the_size_of_chunks_changes_nothing(model, toy, monkeypatch):
    whole = measure(model, toy)
    monkeypatch.setattr(module, "CHUNK", 3)
    parts = measure(model, toy)
    assert parts.metrics == pytest.approx(whole.metrics)


@pytest.mark.parametrize("chunks", [1, 2])
def test_it_is_interrupted_between_chunks(model, toy, monkeypatch, chunks):
    """Before the queries, and between them and the documents."""
    stop, checks = GracefulStop(), iter(range(chunks - 1))

    def check() -> None:
        if next(checks, None) is None:
            raise Interrupted

    monkeypatch.setattr(stop, "check_together", check)
    with pytest.raises(Interrupted):
        measure(model, toy, stop=stop)
