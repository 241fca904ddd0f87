"""`/v1/search` with verify: the ranking of `verify_run`, computed on the engine."""

import asyncio
import dataclasses
import json
import re
import threading
import time
from collections import OrderedDict
from collections.abc import Sequence
from typing import Any
from unittest import mock

import pytest

from t1_jax.retrieval import Query, fuse_runs
from t1_jax.retriever import T1, Verification, verify_run
from t1_jax.serve import Metrics, Service
from t1_jax.serve.failures import RequestError
from t1_jax.serve.jobs import AnyJob, ScoreJob
from t1_jax.serve.ranking import Corpus
from tests.serve.conftest import CONFIG, DOCUMENTS, QUERIES, Running

pytestmark = pytest.mark.enable_socket


def expected(
    model: T1,
    corpus: Corpus,
    text: str,
    k: int,
    *,
    excluded: Sequence[int] = (),
    instruction: str | None = None,
) -> dict[str, float]:
    vector = model.encode_query(text, think=False, instruction=instruction)
    found = corpus.index.search(vector[None], len(corpus.index.ids), [excluded])
    run = found.to_run(["q"], corpus.index.ids)
    query = Query(id="q", text=text)
    verification = Verification(k=k)
    return verify_run(model, run, [query], corpus.documents, verification, instruction=instruction)[
        "q"
    ]


def hits(result: Any) -> dict[str, float]:
    return {hit["id"]: hit["score"] for hit in result["hits"]}


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


def test_filters_are_those_of_the_search(server: Running, tiny_t1: T1, corpus: Corpus):
    asked = {"query": QUERIES[0], "think": "off", "verify": 3, "filter": {"exclude": ["owl"]}}
    (result,) = server.post("/v1/search", asked).json()["results"]
    offline = expected(tiny_t1, corpus, QUERIES[0], 3, excluded=[list(DOCUMENTS).index("owl")])
    assert len(offline) == len(DOCUMENTS) - 1
    assert hits(result) == pytest.approx(offline, abs=1e-5)
    nothing = {**asked, "filter": {"ids": ["nothing"]}}
    assert server.post("/v1/search", nothing).json()["results"][0]["hits"] == []


def test_a_hybrid_ranking_is_fused_with_the_verified_one(
    server: Running, tiny_t1: T1, corpus: Corpus
):
    asked = {"query": QUERIES[1], "think": "off", "verify": 4, "ranking": "hybrid", "k": 5}
    (result,) = server.post("/v1/search", asked).json()["results"]
    assert corpus.bm25 is not None
    lexical = corpus.bm25.search([Query(id="q", text=QUERIES[1])])
    verified = expected(tiny_t1, corpus, QUERIES[1], 4)
    assert hits(result) == pytest.approx(fuse_runs([lexical, {"q": verified}], 5)["q"], abs=1e-4)


def test_a_stream_ends_with_the_verified_ranking(server: Running):
    asked = {"query": QUERIES[2], "think": 4, "verify": 3}
    (plain,) = server.post("/v1/search", asked).json()["results"]
    streamed = server.post("/v1/search", {**asked, "stream": True}).text
    assert "event: result" in streamed
    last = json.loads(streamed.rstrip().rsplit("data: ", 1)[1])
    assert last["hits"] == plain["hits"]


def test_titles_are_scored_under_the_instruction_of_the_server(tiny_t1: T1, corpus: Corpus):
    text, instruction = QUERIES[3], "Find the animal."
    service = Service(
        tiny_t1, CONFIG, Metrics(), name="tiny", corpus=corpus, instruction=instruction
    )
    found = asyncio.run(search(service, text, 4))
    service.engine.stop(60.0)
    assert found == pytest.approx(
        expected(tiny_t1, corpus, text, 4, instruction=instruction), abs=1e-5
    )
    other = expected(tiny_t1, corpus, text, 4)
    assert found != pytest.approx(other, abs=1e-4)


async def search(service: Service, text: str, verify: int) -> dict[str, float]:
    results = await service.embed_queries([text], service.think_options(think="off"))
    options = await service.search_options(k=10, verify=verify, deadline=service.deadline())
    (found,) = await service.search([text], results, options, thoughts=[[]])
    return {hit.id: hit.score for hit in found}


def test_a_title_is_scored_once_without_a_query(tiny_t1: T1, corpus: Corpus):
    service = Service(tiny_t1, CONFIG, Metrics(), name="tiny", corpus=corpus)
    jobs: list[AnyJob] = []
    submit = service.engine.submit
    service.engine.submit = lambda *new: (jobs.extend(new), submit(*new))  # type: ignore[method-assign]
    first = asyncio.run(search(service, QUERIES[0], 5))
    again = asyncio.run(search(service, QUERIES[0], 5))
    service.engine.stop(60.0)
    assert first == again
    sizes = [len(job.thoughts) for job in jobs if isinstance(job, ScoreJob)]
    assert sizes == [5, 5, 5]  # the query, no query, and the query again


def test_a_server_is_warm_for_verification(
    tiny_t1: T1, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
):
    service = Service(tiny_t1, CONFIG, Metrics(), name="tiny", corpus=corpus)
    embed = mock.AsyncMock()
    monkeypatch.setattr(service, "embed_queries", embed)
    monkeypatch.setattr(service, "embed_documents", embed)
    asyncio.run(service.warm_up())
    service.engine.stop(60.0)
    assert embed.called
    assert len(service._verifier._priors) == len(DOCUMENTS)


def test_priors_that_are_not_used_make_room(monkeypatch: pytest.MonkeyPatch, server: Running):
    monkeypatch.setattr("t1_jax.serve.verification._PRIORS", 2)
    verifier = server.service._verifier
    monkeypatch.setattr(verifier, "_priors", OrderedDict())
    verifier._keep({"a": 1.0, "b": 2.0})
    verifier._keep({"a": 1.0, "c": 3.0})
    assert verifier._priors == {"a": 1.0, "c": 3.0}


def test_a_request_of_many_queries_is_bounded_as_a_whole(tiny_t1: T1, corpus: Corpus):
    config = dataclasses.replace(CONFIG, max_waiting_tokens=300)
    service = Service(tiny_t1, config, Metrics(), name="tiny", corpus=corpus)
    texts = QUERIES * 4

    async def search_all() -> None:
        results = await service.embed_queries(texts[:1], service.think_options(think="off"))
        options = await service.search_options(k=2, verify=5, deadline=service.deadline())
        while not service.engine.is_idle:
            await asyncio.sleep(0.01)
        service.engine._waiting_tokens = 1  # another request waits
        await service.search(texts, results * len(texts), options, thoughts=[[]] * len(texts))

    with pytest.raises(RequestError) as error:
        asyncio.run(search_all())
    service.engine.stop(60.0)
    assert error.value.status == 429


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
    """More than the event loop has threads."""
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
        ({"verify": 65}, "allows 2 to 64"),
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
