"""Loading, streaming, mixed load, clients that go away, and the end of a server."""

import asyncio
import concurrent.futures
import dataclasses
import json
import signal
import threading
import time
from typing import Any

import httpx2
import numpy as np
import pytest

from t1_jax.generate import SamplingParams
from t1_jax.retriever import T1
from t1_jax.serve.app import build_app
from t1_jax.serve.metrics import Metrics
from t1_jax.serve.ranking import Corpus
from t1_jax.serve.server import Server
from tests.serve.conftest import CONFIG, DOCUMENTS, QUERIES, Running, serving

pytestmark = pytest.mark.enable_socket


def events(answer: httpx2.Response) -> list[tuple[str, Any]]:
    """The events of a stream, as they come."""
    found, name = [], ""
    for line in answer.iter_lines():
        if line.startswith("event: "):
            name = line.removeprefix("event: ")
        elif line.startswith("data: "):
            found.append((name, json.loads(line.removeprefix("data: "))))
    return found


def test_a_thought_is_streamed_token_by_token(server: Running):
    body = {"query": QUERIES[0]}
    with server.client() as client, client.stream("POST", "/v1/think", json=body) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        *tokens, (last, result) = events(answer)
    plain = server.post("/v1/think", body | {"stream": False}).json()
    assert {name for name, _ in tokens} == {"token"}
    assert last == "result"
    assert "".join(token["text"] for _, token in tokens) == result["thoughts"][0]["text"]
    assert result["embedding"] == plain["embedding"]
    assert result["thoughts"] == plain["thoughts"]


def test_a_search_is_streamed_with_several_thoughts(server: Running):
    body = {"query": QUERIES[1], "n": 3, "seed": 2, "k": 2}
    with server.client() as client:
        with client.stream("POST", "/v1/search", json=body | {"stream": True}) as answer:
            *tokens, (_, result) = events(answer)
        plain = client.post("/v1/search", json=body).json()["results"][0]
    for sample in range(3):
        text = "".join(token["text"] for _, token in tokens if token["sample"] == sample)
        assert text == result["thoughts"][sample]["text"]
    assert result["hits"] == plain["hits"]


def test_an_error_before_the_first_token_is_an_answer_and_not_a_stream(server: Running):
    answer = server.post("/v1/think", {"query": " "})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "query")


def test_mixed_load_mixes_up_no_answers(server: Running, tiny_t1: T1):
    greedy = SamplingParams(temperature=0.0)
    queries = [f"{text} {number}" for number in range(3) for text in QUERIES]
    limits = [1 + 2 * (number % 4) for number in range(len(queries))]
    documents = list(DOCUMENTS.values())
    expected = [
        tiny_t1.encode_query(text, max_thought_tokens=limit, sampling=greedy)
        for text, limit in zip(queries, limits, strict=True)
    ]
    of_documents = tiny_t1.encode_document(documents)

    def query(number: int) -> float:
        body = {"input": queries[number], "model": "t1-query", "think": limits[number]}
        (item,) = server.post("/v1/embeddings", body).raise_for_status().json()["data"]
        return float(np.asarray(item["embedding"]) @ expected[number])

    def encode(number: int) -> float:
        chosen = documents[number % 3 :]
        body = {"input": chosen, "model": "t1-doc"}
        data = server.post("/v1/embeddings", body).raise_for_status().json()["data"]
        vectors = np.asarray([item["embedding"] for item in data])
        return float((vectors * of_documents[number % 3 :]).sum(axis=1).min())

    with concurrent.futures.ThreadPoolExecutor(12) as pool:
        futures = [pool.submit(query, number) for number in range(len(queries))]
        futures += [pool.submit(encode, number) for number in range(6)]
        cosines = [future.result(60) for future in futures]
    assert min(cosines) > 0.9999


def test_a_client_that_goes_away_frees_its_rows(tiny_t1: T1, corpus: Corpus):
    config = dataclasses.replace(CONFIG, max_thought_tokens=200)
    with serving(tiny_t1, corpus, config) as running:
        for text in QUERIES:
            with (
                running.client() as client,
                client.stream("POST", "/v1/think", json={"query": text}) as answer,
            ):
                for _ in answer.iter_lines():
                    break  # read one line and go away
            with pytest.raises(httpx2.TimeoutException):
                httpx2.post(
                    f"{running.url}/v1/embeddings",
                    json={"input": f"{text} 2", "model": "t1-query"},
                    timeout=0.05,
                )
        started = time.monotonic()
        while not running.service.engine.is_idle:
            assert time.monotonic() - started < 30
            time.sleep(0.01)
        assert running.post("/v1/embeddings", {"input": "a", "model": "t1-query"}).is_success


def test_a_server_that_loads_says_so(tiny_t1: T1):
    release = threading.Event()

    def load(config: Any, metrics: Metrics) -> Any:
        release.wait(60)
        raise RuntimeError("the weights are gone")

    loop = asyncio.new_event_loop()
    server = Server(build_app(CONFIG, load), CONFIG)
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()))
    thread.start()
    while not server.started:
        time.sleep(0.01)
    running = Running(server, loop)
    try:
        health = running.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "loading"})
        answer = running.post("/v1/embeddings", {"input": "a", "model": "t1-doc"})
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the server is loading"
        assert int(answer.headers["retry-after"]) > 0
        release.set()
        while running.get("/health").json() == {"status": "loading"}:
            time.sleep(0.01)
        assert running.get("/health").json() == {"status": "failed"}
    finally:
        release.set()
        server.handle_exit(signal.SIGTERM, None)
        thread.join(30)
        loop.close()
    assert not thread.is_alive()


def test_drain_finishes_what_was_accepted_and_turns_the_rest_away(tiny_t1: T1, corpus: Corpus):
    config = dataclasses.replace(CONFIG, max_thought_tokens=200)
    with serving(tiny_t1, corpus, config) as running:
        held = running.client()
        assert held.get("/health").json() == {"status": "ready"}
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            futures = [
                pool.submit(running.post, "/v1/embeddings", {"input": t, "model": "t1-query"})
                for t in QUERIES
            ]
            while running.service.engine.is_idle:
                time.sleep(0.005)
            running.server.handle_exit(signal.SIGTERM, None)
            health = held.get("/health")
            assert (health.status_code, health.json()) == (503, {"status": "draining"})
            answers = [future.result(60) for future in futures]
        assert {answer.status_code for answer in answers} <= {200, 503}
        assert any(answer.status_code == 200 for answer in answers)
        for answer in answers:
            if answer.status_code == 200:
                assert len(answer.json()["data"][0]["embedding"]) == tiny_t1.embed_dim
        held.close()
