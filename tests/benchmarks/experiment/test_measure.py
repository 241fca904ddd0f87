"""The numbers in the files are those of the model; what is there is not measured again."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.experiment.measure import main, measure
from benchmarks.experiment.plan import Plan, SystemConfig
from benchmarks.experiment.results import read_result
from t1_jax.generate import SamplingParams
from t1_jax.hub import open_collection
from t1_jax.retrieval import write_run as write_trec
from t1_jax.retriever import T1
from t1_jax.text import T1Tokenizer
from tests.benchmarks.experiment.toys import write_run
from tests.train.toy_runs import write_model, write_zoo


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> Path:
    """A run, rankings, and everything that was measured of them."""
    root = tmp_path_factory.mktemp("experiment")
    write_model(root / "model", tiny_tokenizer)
    write_zoo(root / "zoo")
    write_run(root / "run", root / "model")
    right = {query.id: {query.id.split("-")[1]: 1.0} for query in zoo(root).queries[:6]}
    write_trec(right, root / "ranked" / "zoo.trec")
    measure(plan(root), lambda _: None)
    return root


def zoo(root: Path):
    return open_collection(str(root / "zoo"))


def plan(root: Path, **fields) -> Plan:
    systems = {
        "given": SystemConfig(label="given", kind="run", path=root / "ranked"),
        "plain": SystemConfig(
            label="plain",
            kind="no-thought",
            path=root / "run/stages/s1",
            measurements=("controls",),
        ),
        "t1": SystemConfig(
            label="T1",
            kind="t1",
            path=root / "run",
            measurements=("controls", "samples", "budgets", "cost"),
            controls=("own", "no-think", "empty"),
        ),
        "missing": SystemConfig(label="missing", kind="t1", path=root / "nowhere"),
    }
    known: dict[str, Any] = {
        "systems": systems,
        "reference": "t1",
        "collections": (str(root / "zoo"),),
        "results": root / "results",
        "vectors": root / "vectors",
        "dtype": "float32",
        "max_thought_tokens": 4,
        "budgets": (2, 4),
        "samples": (2,),
        "cost_queries": 2,
        "cost_documents": 4,
        "cost_rounds": 1,
    }
    return Plan(**known | fields)


def found(root: Path, system: str, measurement: str):
    return read_result(root / "results" / f"{system}.{measurement}.zoo-test.json")


def ndcg_by_hand(queries: np.ndarray, documents: np.ndarray, root: Path) -> list[float]:
    """Each query has one right document: 1 / log2(1 + its rank)."""
    names = [document.id for document in zoo(root).documents]
    values = []
    for query, scores in zip(zoo(root).queries, queries @ documents.T, strict=True):
        right = scores[names.index(query.id.split("-")[1])]
        values.append(1 / np.log2(2 + np.sum(scores > right)))
    return values


def test_the_scores_are_those_of_the_model(root):
    model = T1.load(root / "model", dtype="float32")
    documents = model.encode_document([document.full_text for document in zoo(root).documents])
    texts = [query.text for query in zoo(root).queries]
    ids = [query.id for query in zoo(root).queries]
    greedy = SamplingParams(temperature=0.0)
    ways = {
        ("controls", "no-think"): {"think": False},
        ("controls", "own"): {"max_thought_tokens": 4, "sampling": greedy},
        ("controls", "empty"): {"thoughts": [""] * len(texts)},
        ("budget-2", "budget-2"): {"max_thought_tokens": 2, "sampling": greedy},
        ("samples-2", "samples-2"): {
            "max_thought_tokens": 4, "n": 2, "sampling": SamplingParams(temperature=0.7),
        },
    }  # fmt: skip
    for (measurement, row), how in ways.items():
        vectors = model.encode_query(texts, query_ids=ids, **how)
        measured = found(root, "t1", measurement)
        assert measured.query_ids == ids
        np.testing.assert_allclose(
            measured.rows[row].values["nDCG@10"],
            ndcg_by_hand(vectors, documents, root),
            atol=1e-5,
            err_msg=row,
        )
    assert found(root, "t1", "controls").rows["own"].mean_tokens is not None
    assert found(root, "t1", "controls").training_tokens == 500


def test_each_system_is_measured_as_it_is_to_be_used(root):
    assert set(found(root, "plain", "controls").rows) == {"no-think"}
    assert found(root, "plain", "controls").training_tokens == 200
    ranked = found(root, "given", "controls").rows["run"].values["nDCG@10"]
    assert ranked == [1.0] * 6 + [0.0] * 2
    timed = found(root, "t1", "cost").seconds
    assert set(timed) == {"no-think", "own", "samples-2", "document"}
    assert min(timed.values()) > 0
    names = {file.name.split(".")[0] for file in (root / "results").glob("*.json")}
    assert names == {"given", "plain", "t1"}
    curve = json.loads((root / "results/curves/run.json").read_text())
    assert [point["step"] for point in curve["points"]] == [0, 2, 5]


def test_what_is_there_is_not_measured_again(root, monkeypatch):
    def load(*_, **__):
        raise AssertionError("loaded")

    monkeypatch.setattr(T1, "load", load)
    said: list[str] = []
    assert measure(plan(root), said.append) == []
    assert any("missing: skipped" in line for line in said)
    with pytest.raises(AssertionError, match="loaded"):
        measure(plan(root, max_thought_tokens=5), said.append)
    with pytest.raises(AssertionError, match="loaded"):
        measure(plan(root, remeasure=True), said.append)
    card = root / "run/stages/s2/config.json"
    before = card.read_text()
    card.write_text(before + " ")
    with pytest.raises(AssertionError, match="loaded"):
        measure(plan(root), said.append)
    card.write_text(before)


def test_a_mistake_is_told_in_a_line(capsys, monkeypatch):
    monkeypatch.chdir(Path(__file__).parents[3])
    assert main(["budgets=many"]) == 2
    assert "error: " in capsys.readouterr().err
