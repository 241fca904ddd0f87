"""`/v1/search` with verify: the ranking of `verify_run`, computed on the engine."""

import re
import threading
import time

import pytest

from t1_jax.retrieval import Query
from t1_jax.retriever import T1, Verification, verify_run
from t1_jax.serve.jobs import AnyJob, ScoreJob
from t1_jax.serve.ranking import Corpus
from tests.serve.conftest import QUERIES, Running

pytestmark = pytest.mark.enable_socket


def expected(model: T1, corpus: Corpus, text: str, k: int) -> dict[str, float]:
    vector = model.encode_query(text, think=False)
    found = corpus.index.search(vector[None], len(corpus.index.ids), [[]])
    run = found.to_run(["q"], corpus.index.ids)
    query = Query(id="q", text=text)
    return dict(verify_run(model, run, [query], corpus.documents, Verification(k=k))["q"])


def test_the_nearest_documents_are_reordered_as_offline(
    server: Running, tiny_t1: T1, corpus: Corpus
):
    asked = {"query": QUERIES, "think": "off", "ranking": "dense", "k": 5}
    plain = server.post("/v1/search", asked).json()["results"]
    results = server.post("/v1/search", {**asked, "verify": 4}).json()["results"]
    for text, before, after in zip(QUERIES, plain, results, strict=True):
        scores = {hit["id"]: hit["score"] for hit in after["hits"]}
        offline = expected(tiny_t1, corpus, text, 4)
        assert list(scores) == list(offline)
        assert scores == pytest.approx(offline, abs=1e-5)
        cosines = {hit["id"]: hit["cosine"] for hit in before["hits"]}
        assert {hit["id"]: hit["cosine"] for hit in after["hits"]} == pytest.approx(cosines)
        moved = [name for name, score in scores.items() if abs(score - cosines[name]) > 1e-4]
        assert len(moved) >= 3  # the mutual information of each is not zero


def test_the_time_of_scoring_is_not_that_of_the_search(
    server: Running, monkeypatch: pytest.MonkeyPatch
):
    def seconds() -> float:
        text = server.get("/metrics").text
        (line,) = re.findall(r'^t1_phase_seconds_sum{phase="search"} .*', text, re.MULTILINE)
        return float(line.split()[1])

    engine = server.service.engine
    submit = engine.submit

    def slow(*jobs: AnyJob) -> None:
        time.sleep(0.5 * any(isinstance(job, ScoreJob) for job in jobs))
        submit(*jobs)

    asked = {"query": QUERIES[0], "think": "off"}
    assert server.post("/v1/search", asked).is_success
    before = seconds()
    monkeypatch.setattr(engine, "submit", slow)
    assert server.post("/v1/search", {**asked, "verify": 2}).is_success
    assert before < seconds() < before + 0.4


def test_many_requests_share_the_engine(server: Running):
    """Scoring waits for the engine in a thread; the engine needs none of these threads."""
    body = {"query": QUERIES[0], "k": 2, "verify": 3, "think": 4}
    alone = server.post("/v1/search", body).json()["results"][0]["hits"]
    answers: list[object] = []

    def ask() -> None:
        answers.append(server.post("/v1/search", body).json()["results"][0]["hits"])

    threads = [threading.Thread(target=ask) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert answers == [alone] * 12


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"verify": 1}, "allows 2 to"),
        ({"verify": 100_000}, "allows 2 to"),
        ({"verify": -1}, "greater than or equal to 0"),
        ({"ranking": "bm25"}, "this ranking has none"),
        ({"fusion": "rank", "n": 2}, "this ranking has none"),
    ],
)
def test_requests_without_sense(server: Running, fields, said):
    answer = server.post("/v1/search", {"query": "x", "verify": 2, **fields})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "verify"
    assert said in answer.json()["error"]["message"]
