"""Loading, streaming, mixed load, clients that go away, and the end of a server."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import re
import signal
import socket
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

import httpx2
import numpy as np
import pytest

from t1_jax.generate import ContinuousBatch, RunningThought, SamplingParams, Thought
from t1_jax.retriever import T1, mean_log_probs
from t1_jax.serve.app import build_app
from t1_jax.serve.engine import Engine
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


@dataclasses.dataclass
class Hold:
    """Thoughts get no more tokens once they have as many as `at`; None holds nothing."""

    at: int | None = None


@pytest.fixture
def hold(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hold]:
    decode_chunk, hold = ContinuousBatch.decode_chunk, Hold()

    def decode(self: ContinuousBatch) -> list[tuple[RunningThought, Thought]]:
        most = hold.at
        if most is None or any(len(thought.tokens) < most for thought in self._running.values()):
            return decode_chunk(self)
        time.sleep(0.02)
        return []

    monkeypatch.setattr(ContinuousBatch, "decode_chunk", decode)
    yield hold
    hold.at = None


def wait_for(condition: Callable[[], bool]) -> None:
    started = time.monotonic()
    while not condition():
        assert time.monotonic() - started < 30
        time.sleep(0.01)


def embed(running: Running, text: str, **options: Any) -> httpx2.Response:
    return running.post("/v1/embeddings", {"input": text, "model": "t1-query", **options})


def engine_of(running: Running) -> Engine:
    """The engine, of a server that drains too."""
    service = running.state._service
    assert service is not None
    return service.engine


def running_in(engine: Engine) -> int:
    """Queries whose thoughts have rows."""
    return len({id(job) for group in engine._groups.values() for job in group.jobs.values()})


def queries_in(running: Running) -> int:
    """Queries that the engine has and did not answer."""
    engine = engine_of(running)
    return running_in(engine) + len(engine._to_think)


def cancelled(running: Running) -> float:
    (line,) = re.findall(r"^t1_cancelled_total .*", running.get("/metrics").text, re.MULTILINE)
    return float(line.split()[1])


def send(running: Running, path: str, body: Any) -> socket.socket:
    """Sends a request and does not wait for the answer."""
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(content)}\r\n\r\n"
    connection = socket.create_connection(("127.0.0.1", running.server.port))
    connection.sendall(head.encode() + content)
    return connection


@pytest.mark.parametrize(
    ("path", "body", "at"),
    [
        ("/v1/embeddings", {"input": "who swims?", "model": "t1-query"}, 2),
        ("/v1/think", {"query": "who swims?"}, 0),  # nothing was sent yet
        ("/v1/think", {"query": "who swims?"}, 2),
        ("/v1/search", {"query": "who swims?", "stream": True}, 0),
        ("/rerank", {"query": "who swims?", "texts": ["a fish"]}, 0),
    ],
)
def test_a_client_that_goes_away_frees_its_rows(
    server: Running, hold: Hold, path: str, body: Any, at: int
):
    before = cancelled(server)
    hold.at = at
    connection = send(server, path, body)
    wait_for(lambda: running_in(server.service.engine) == 1)
    if at and path == "/v1/think":
        received = b""
        while b"event: token" not in received:
            received += connection.recv(1000)
    connection.close()
    wait_for(lambda: server.service.engine.is_idle)
    assert cancelled(server) > before  # the other side of /rerank may be cancelled too


def test_a_client_that_goes_away_ends_verification(
    server: Running, monkeypatch: pytest.MonkeyPatch
):
    begun, scored = threading.Event(), 0

    def score(model: T1, prompts: Any, thoughts: Any) -> Any:
        nonlocal scored
        scored += 1
        begun.set()
        wait_for(lambda: cancelled_in(server) > 0)
        return mean_log_probs(model, prompts, thoughts)

    monkeypatch.setattr("t1_jax.serve.forward.mean_log_probs", score)
    monkeypatch.setattr(server.service._verifier, "_priors", OrderedDict())
    before = cancelled(server)
    connection = send(server, "/v1/search", {"query": "who?", "think": "off", "verify": 5})
    assert begun.wait(30)
    connection.close()
    wait_for(lambda: server.service.engine.is_idle)
    assert scored == 1
    assert cancelled(server) == before + 2  # titles with the query, and without


def cancelled_in(running: Running) -> int:
    """Jobs of forward passes that are cancelled and not dropped yet."""
    return sum(job.future.cancelled() for job in engine_of(running)._forward.jobs)


def test_a_search_ends_when_its_client_goes_away(server: Running, monkeypatch: pytest.MonkeyPatch):
    begun, ended = threading.Event(), threading.Event()

    async def search(*_: Any, **__: Any) -> Any:
        begun.set()
        try:
            await asyncio.sleep(60)
        finally:
            ended.set()

    monkeypatch.setattr(server.service, "search", search)
    connection = send(server, "/v1/search", {"query": QUERIES, "think": "off"})
    assert begun.wait(30)
    connection.close()
    assert ended.wait(30)


def test_a_thought_ends_when_the_other_side_of_its_request_fails(server: Running, hold: Hold):
    hold.at = 0
    answer = server.post("/rerank", {"query": "who swims?", "texts": ["a fish", " "]})
    assert (answer.status_code, answer.json()["error"]["field"]) == (400, "texts.1")
    wait_for(lambda: server.service.engine.is_idle)


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


def test_drain_finishes_what_was_accepted_and_turns_the_rest_away(
    tiny_t1: T1, corpus: Corpus, hold: Hold
):
    with (
        serving(tiny_t1, corpus) as running,
        running.client() as client,
        concurrent.futures.ThreadPoolExecutor(6) as pool,
    ):
        assert client.get("/health").json() == {"status": "ready"}
        hold.at = 0
        futures = [pool.submit(embed, running, f"{text} 3") for text in [*QUERIES, "a", "b"]]
        wait_for(lambda: queries_in(running) == len(futures))  # four have rows, two wait for them
        running.server.handle_exit(signal.SIGTERM, None)
        health = client.get("/health")
        assert (health.status_code, health.json()) == (503, {"status": "draining"})
        assert embed(running, "late").status_code == 503
        assert not any(future.done() for future in futures)
        hold.at = None
        answers = [future.result(60) for future in futures]
        assert [answer.status_code for answer in answers] == [200] * len(futures)
        for answer in answers:
            assert len(answer.json()["data"][0]["embedding"]) == tiny_t1.embed_dim


@contextlib.contextmanager
def thinking_server(
    model: T1, hold: Hold, *, drain_seconds: float
) -> Iterator[tuple[Running, concurrent.futures.Future[httpx2.Response]]]:
    """A server in which one query is thought about without an end, and its answer."""
    config = dataclasses.replace(CONFIG, drain_seconds=drain_seconds)
    with (
        serving(model, None, config) as running,
        concurrent.futures.ThreadPoolExecutor(1) as pool,
    ):
        hold.at = 0
        future = pool.submit(embed, running, "who swims?")
        wait_for(lambda: queries_in(running) == 1)
        yield running, future


def test_what_is_left_at_the_deadline_of_a_drain_fails(tiny_t1: T1, hold: Hold):
    with thinking_server(tiny_t1, hold, drain_seconds=0.4) as (running, future):
        running.server.handle_exit(signal.SIGTERM, None)
        answer = future.result(10)
        assert answer.status_code == 503
        assert answer.json()["error"]["message"] == "the server is draining"
        wait_for(lambda: not engine_of(running).is_alive)
        wait_for(lambda: not running.loop.is_running())


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_server_that_thinks(tiny_t1: T1, hold: Hold, sig: signal.Signals):
    with thinking_server(tiny_t1, hold, drain_seconds=60.0) as (running, future):
        running.server.handle_exit(sig, None)
        assert embed(running, "late").status_code == 503
        running.server.handle_exit(sig, None)
        with pytest.raises(httpx2.TransportError):
            future.result(10)
        wait_for(lambda: not running.loop.is_running())
        wait_for(lambda: not engine_of(running).is_alive)


def test_a_server_that_loads_ends_at_once():
    """Loading may take minutes, and no request waits for it."""
    release, engine = threading.Event(), mock.Mock()

    def load(config: Any, metrics: Metrics) -> Any:
        release.wait(60)
        return mock.Mock(engine=engine)

    loop = asyncio.new_event_loop()
    server = Server(build_app(CONFIG, load), CONFIG)
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()))
    thread.start()
    wait_for(lambda: server.started)
    ready = asyncio.run_coroutine_threadsafe(Running(server, loop).state.ready(), loop)
    server.handle_exit(signal.SIGTERM, None)
    assert ready.result(10) is None
    thread.join(10)
    loop.close()
    assert not thread.is_alive()
    release.set()
    wait_for(lambda: engine.abort.called)  # the model came too late
