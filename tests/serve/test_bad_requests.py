"""A wrong request gets a status and a JSON error with type, field and hint, and harms no other."""

import asyncio
import concurrent.futures
import contextlib
import dataclasses
import json
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx2
import numpy as np
import pytest

from benchmarks.serve.connections import Flood, flood
from t1_jax.errors import ConfigError, DataError, RetryableError, WeightsError
from t1_jax.generate import ContinuousBatch
from t1_jax.retriever import T1
from t1_jax.serve import failures, schemas
from t1_jax.serve.ranking import Corpus
from tests.serve.conftest import CONFIG, Running, serving

pytestmark = pytest.mark.enable_socket


def error_of(answer: httpx2.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    return checked(answer.json())


def checked(body: Any) -> dict[str, Any]:
    """The error of a body, which says what is wrong, and what to do."""
    error = body["error"]
    assert set(error) == {"type", "message", "field", "param", "hint"}
    assert all(isinstance(error[name], str) and error[name] for name in ("type", "message", "hint"))
    assert error["field"] == error["param"]
    assert error["field"] is None or error["field"]
    return error


REQUESTS = [
    kind
    for kind in vars(schemas).values()
    if isinstance(kind, type) and issubclass(kind, schemas.BaseModel) and kind.__doc__
    and kind.__doc__.startswith("`POST")
]  # fmt: skip


def fields_of(kind: type[schemas.BaseModel]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each field of a request, and of its objects, with a body in which only it is wrong."""
    valid: dict[str, Any] = {"query": "a", "input": "a", "model": "t1-doc", "texts": ["a"]}
    valid |= {"ids": [1], "inputs": "a"}
    objects: dict[str, Any] = {}
    if kind is schemas.SearchRequest:
        objects["filter"] = schemas.Filter, {}
    if kind is schemas.SimilarityRequest:
        objects["parameters"] = schemas.SimilarityParameters, {}
        sentences = {"source_sentence": "a", "sentences": ["a"]}
        objects["inputs"] = schemas.SimilarityInputs, sentences
        valid["inputs"] = sentences
    valid = {name: value for name, value in valid.items() if name in kind.model_fields}
    for name in kind.model_fields:
        yield name, valid | {name: -1.5}
    for name, (inner, inside) in objects.items():
        for field in inner.model_fields:
            yield f"{name}.{field}", valid | {name: inside | {field: -1.5}}


def test_every_field_of_every_request_says_what_it_takes():
    assert len(REQUESTS) == 8
    for kind in REQUESTS:
        for field, body in fields_of(kind):
            with pytest.raises(failures.RequestError) as error:
                schemas.parse_body(kind, json.dumps(body).encode())
            assert error.value.status == 422
            assert checked(error.value.body)["field"] == field
            assert error.value.hint.startswith("send")


def test_every_failure_says_what_to_do():
    without_hint = [kind("x") for kind in (ConfigError, DataError, RetryableError, WeightsError)]
    for error in [
        failures.backend_failure("x"),
        failures.cancelled(),
        failures.overloaded(5, 3),
        *map(failures.unavailable, ("loading", "draining", "failed")),
        *map(failures.from_t1_error, without_hint),
        failures.from_t1_error(DataError("x"), field="input"),
    ]:
        checked(error.body)
    assert "Retry-After" in failures.overloaded(5, 3).headers
    assert "Retry-After" not in failures.unavailable("failed").headers


def test_a_bug_is_answered_as_one(server: Running, monkeypatch: pytest.MonkeyPatch):
    def broken(*_: Any) -> None:
        raise ZeroDivisionError("who purrs?")

    monkeypatch.setattr(server.service, "search_options", broken)
    error = error_of(server.post("/v1/search", {"query": "a"}), 500)
    assert error["type"] == "internal"
    assert "purrs" not in error["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "field", "words"),
    [
        ("/v1/embeddings", {"input": "", "model": "t1-query"}, 400, "input", "empty"),
        ("/v1/embeddings", {"input": ["a", " "], "model": "t1-doc"}, 400, "input.1", "empty"),
        ("/v1/embeddings", {"input": [], "model": "t1-doc"}, 400, "input", "empty"),
        ("/v1/embeddings", {"input": "a", "model": "gpt"}, 404, "model", "gpt"),
        ("/v1/embeddings", {"input": "a", "model": "tiny"}, 422, "input_type", "differently"),
        ("/v1/embeddings", {"model": "t1-doc"}, 422, "input", "missing"),
        ("/v1/embeddings", {"input": 5, "model": "t1-doc"}, 422, "input", "string"),
        ("/v1/embeddings", {"input": [1, 2], "model": "t1-doc"}, 422, "input", "token ids"),
        ("/v1/embeddings", {"input": "a", "model": "t1-doc", "n": 2}, 422, "n",
         "without a thought"),
        ("/v1/embeddings", {"input": "a", "model": "t1-query", "dimensions": 99},
         422, "dimensions", "the model has 32"),
        ("/v1/embeddings", {"input": "a", "model": "t1-query", "think": 99}, 422, "think",
         "allows"),
        ("/v1/embeddings", {"input": "a", "model": "t1-query", "think": "hard"}, 422, "think", ""),
        ("/v1/embeddings", {"input": "a", "model": "t1-query", "n": 99}, 422, "n", "allows 4"),
        ("/v1/embeddings", {"input": "a", "model": "t1-query", "deadline": -1}, 422, "deadline",
         ""),
        ("/v1/embeddings", {"input": "a", "model": "t1-query", "thoughts": []}, 422, "thoughts",
         "1 queries but 0"),
        ("/v1/embeddings", {"input": "a", "model": "t1-query-nothink", "think": 3}, 422, "think",
         "does not think"),
        ("/v1/embeddings", {"input": "a", "model": "t1-doc", "input_type": "query"}, 422,
         "input_type", "embeds a document"),
        ("/v1/embeddings", {"input": "a", "model": "t1-doc", "temperature": 1}, 422, "temperature",
         "unknown field"),
        ("/v1/embeddings", {"input": ["a"] * 17, "model": "t1-doc"}, 413, "input", "takes 16"),
        ("/v1/search", {"query": "a", "k": 0}, 422, "k", ""),
        ("/v1/search", {"query": "a", "k": 10**6}, 422, "k", "allows 1000"),
        ("/v1/search", {"query": ["a", "b"], "stream": True}, 422, "stream", "one query"),
        ("/v1/search", {"query": "a", "filter": {"idz": []}}, 422, "filter.idz", "unknown"),
        ("/v1/think", {"query": "a", "think": "off"}, 422, "think", "cannot be off"),
        ("/rerank", {"query": "a", "texts": []}, 400, "texts", "empty"),
        ("/similarity", {"inputs": {"source_sentence": "a", "sentences": ["b"]},
                         "parameters": {"prompt_name": "query"}},
         422, "parameters.prompt_name", "unknown field"),
        ("/tokenize", {"inputs": "a", "prompt_name": "query"}, 422, "prompt_name", "unknown field"),
        ("/rerank", {"query": "a", "texts": ["b"], "truncation_direction": "Left"}, 422,
         "truncation_direction", "right"),
        ("/decode", {"ids": [10**6]}, 422, "ids", "not a token id"),
        ("/embed", {"inputs": "word " * 3000, "truncate": False}, 413, "inputs", "too many tokens"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said(
    server: Running, path: str, body: Any, status: int, field: str, words: str
):
    error = error_of(server.post(path, body), status)
    assert error["field"] == error["param"] == field
    assert words in error["message"]


def test_a_wrong_request_is_rejected_before_anything_is_embedded(
    tiny_t1: T1, corpus: Corpus, monkeypatch: pytest.MonkeyPatch
):
    vectors = dataclasses.replace(corpus, documents={}, bm25=None)
    with serving(tiny_t1, vectors) as running:

        def submit(*_: Any) -> None:
            raise AssertionError("the engine has work")

        monkeypatch.setattr(running.service.engine, "submit", submit)
        search, embed = {"query": "who purrs?"}, {"inputs": "who purrs?", "prompt_name": "query"}
        for path, body, field in [
            ("/v1/search", search | {"k": 10**6}, "k"),
            ("/v1/search", search | {"k": 10**6, "stream": True}, "k"),
            ("/v1/search", search | {"ranking": "bm25"}, "ranking"),
            ("/v1/search", search | {"ranking": "hybrid", "stream": True}, "ranking"),
            ("/v1/search", search | {"verify": 2}, "verify"),
            ("/v1/search", search | {"thoughts": ["a", "b"]}, "thoughts"),
            ("/embed", embed | {"dimensions": 99}, "dimensions"),
            ("/v1/embeddings", {"input": "a", "model": "t1-query", "dimensions": 99}, "dimensions"),
        ]:
            error = error_of(running.post(path, body), 422)
            assert error["field"] == field


def test_malformed_bodies_and_unknown_routes(server: Running):
    with server.client() as client:
        for content in (b"{", b"\xff\xfe", b"[1, 2"):
            assert (
                error_of(client.post("/v1/embeddings", content=content), 400)["type"] == "malformed"
            )
        for content in (b"[]", b'"text"', b"", b'{"input": NaN}'):
            error_of(client.post("/v1/embeddings", content=content), 422)
        assert error_of(client.get("/v1/nothing"), 404)["type"] == "not_found"
        assert error_of(client.get("/v1/search"), 405)["type"] == "method_not_allowed"
        lone_surrogate = rb'{"input": "\ud800", "model": "t1-doc"}'
        assert error_of(client.post("/v1/embeddings", content=lone_surrogate), 400)


def test_a_long_text_is_truncated_and_the_answer_says_so(server: Running, tiny_t1: T1):
    text = "who purrs? " * 28_000
    body = {"input": [text, "short"], "model": "t1-doc"}
    data = server.post("/v1/embeddings", body).json()["data"]
    assert [item["truncated"] for item in data] == [True, False]
    (item,) = server.post("/v1/embeddings", {"input": text, "model": "t1-query"}).json()["data"]
    assert item["truncated"] is True


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02 hello\r\n\r\n", b"GET / HTTP/1.1\r\nx: " + b"y" * 65_600]
)
def test_what_is_not_http_gets_a_json_error_too(server: Running, sent: bytes):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(sent)
        connection.settimeout(10)
        head, _, body = connection.makefile("rb").read().partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 Bad Request\r\n")
    assert checked(json.loads(body))["type"] == "malformed"


def test_a_large_body_is_rejected_before_it_is_read(tiny_t1: T1, server: Running):
    content = b'{"input": "' + b"x" * CONFIG.max_body_bytes + b'"}'
    with server.client() as client:
        assert error_of(client.post("/v1/embeddings", content=content), 413)["type"] == "too_large"

        def chunks():
            for _ in range(50):
                yield b"x" * 100_000

        try:
            answer = client.post("/v1/embeddings", content=chunks())
        except httpx2.HTTPError:  # the server may close before all is sent
            return
        error_of(answer, 413)


def test_keys_guard_every_route_but_health(tiny_t1: T1, corpus: Corpus):
    config = dataclasses.replace(
        CONFIG, api_keys=("0123456789abcdef", "another-key-of-2"), reject_long_texts=True
    )
    with serving(tiny_t1, corpus, config) as running:
        assert running.get("/health").status_code == 200
        for path in ("/", "/page.js", "/info", "/metrics", "/v1/models", "/nothing"):
            answer = running.get(path)
            assert error_of(answer, 401)["type"] == "unauthorized"
            assert answer.headers["www-authenticate"].startswith("Basic")
        error_of(running.post("/v1/embeddings", {"input": "a", "model": "t1-doc"}), 401)
        for value in ("Bearer wrong", "Bearer", "Basic !!", "Basic d3Jvbmc6d3Jvbmc=", "x"):
            error_of(running.get("/info", headers={"Authorization": value}), 401)
        for key in config.api_keys:
            assert running.get("/info", headers={"Authorization": f"Bearer {key}"}).is_success
            assert running.get("/info", auth=("", key)).is_success
        long = {"input": "who purrs? " * 500, "model": "t1-doc"}
        error_of(running.post("/v1/embeddings", long, auth=("", "another-key-of-2")), 413)


def test_pages_of_other_sites_are_turned_away(server: Running):
    body = {"input": "a", "model": "t1-doc"}
    for origin in ("https://example.org", "null"):
        answer = server.post("/v1/embeddings", body, headers={"Origin": origin})
        assert error_of(answer, 403)["type"] == "forbidden"
    own = server.post("/v1/embeddings", body, headers={"Origin": server.url})
    assert own.is_success
    assert "access-control-allow-origin" not in own.headers
    error_of(server.get("/info", headers={"Host": "attacker.example"}), 403)
    assert server.get("/info", headers={"Host": "localhost:8080"}).is_success


def test_another_origin_can_be_allowed(tiny_t1: T1):
    config = dataclasses.replace(CONFIG, cors_origins=("https://app.example",))
    with serving(tiny_t1, None, config, wait=False) as running:
        preflight = {
            "Origin": "https://app.example",
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type",
        }
        with running.client() as client:
            answer = client.options("/v1/embeddings", headers=preflight)
        assert answer.headers["access-control-allow-origin"] == "https://app.example"


def test_security_headers_are_on_every_answer(server: Running):
    for answer in (server.get("/"), server.get("/info"), server.get("/nothing")):
        assert "script-src 'self'" in answer.headers["content-security-policy"]
        assert "unsafe" not in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "server" not in answer.headers


def test_an_embedding_that_is_not_finite_fails_its_own_request_only(
    server: Running, tiny_t1: T1, monkeypatch: pytest.MonkeyPatch
):
    encode, decode_chunk = tiny_t1.encoder.encode, ContinuousBatch.decode_chunk
    broken = tiny_t1.tokenize_documents(["a broken cat"], ["x"])[0].ids.tolist()

    def encode_with_nan(rows, *, names, **options):
        if any(row.ids.tolist() == broken for row in rows):
            raise DataError(f"{names[0]}: the model's embedding is not finite", hint="float32")
        return encode(rows, names=names, **options)

    def decode_with_nan(self):
        return [
            (running, dataclasses.replace(thought, embedding=thought.embedding * np.float32("nan")))
            if running.max_tokens == 5
            else (running, thought)
            for running, thought in decode_chunk(self)
        ]

    monkeypatch.setattr(tiny_t1.encoder, "encode", encode_with_nan)
    monkeypatch.setattr(ContinuousBatch, "decode_chunk", decode_with_nan)
    bodies = [
        {"input": ["a cat", "a broken cat"], "model": "t1-doc"},
        {"input": "a cat", "model": "t1-doc"},
        {"input": "who purrs?", "model": "t1-query", "think": 5},
        {"input": "who barks?", "model": "t1-query", "think": 6},
    ]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda body: server.post("/v1/embeddings", body), bodies))
    assert [answer.status_code for answer in answers] == [424, 200, 424, 200]
    for answer in (answers[0], answers[2]):
        error = error_of(answer, 424)
        assert error["type"] == "backend"
        assert "not finite" in error["message"]


def test_a_server_without_an_index_embeds_but_does_not_search(tiny_t1: T1):
    with serving(tiny_t1, None) as running:
        assert running.get("/info").json()["index"] is None
        assert error_of(running.post("/v1/search", {"query": "a"}), 404)["type"] == "no_index"
        assert running.post("/v1/embeddings", {"input": "a", "model": "t1-doc"}).is_success


def test_slow_clients_are_cut_off_and_hold_up_nobody_else(server: Running):
    host, port = server.url.removeprefix("http://").split(":")
    begin = b"POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\n"
    in_headers = socket.create_connection((host, int(port)))
    in_body = socket.create_connection((host, int(port)))
    silent = socket.create_connection((host, int(port)))
    in_headers.sendall(begin)
    in_body.sendall(begin + b"Content-Length: 100\r\n\r\n{")
    started = time.monotonic()
    stop = threading.Event()

    def drip() -> None:  # a byte now and then does not keep a connection open
        while not stop.wait(0.2):
            for connection in (in_headers, in_body):
                with contextlib.suppress(OSError):
                    connection.sendall(b"x")

    dripping = threading.Thread(target=drip)
    dripping.start()
    assert server.post("/v1/embeddings", {"input": "a", "model": "t1-doc"}).is_success
    for connection, expected in ((in_headers, b""), (silent, b""), (in_body, b"HTTP/1.1 408")):
        connection.settimeout(30)
        try:
            assert connection.recv(100).startswith(expected)
        except ConnectionResetError:  # a byte arrived after the server had closed
            assert expected == b""
    stop.set()
    dripping.join()
    for connection in (in_headers, in_body, silent):
        connection.close()
    assert CONFIG.client_seconds * 0.9 < time.monotonic() - started < 25


def test_thousands_of_connections_are_answered_and_leave_the_server_as_it_was(tiny_t1: T1):
    config = dataclasses.replace(CONFIG, max_connections=20, client_seconds=10.0)
    kept: list[int] = []
    with serving(tiny_t1, None, config) as running:
        host, port = running.url.removeprefix("http://").split(":")
        connections = running.server.server_state.connections

        def look() -> None:
            kept.append(len(connections))
            with socket.create_connection((host, int(port))) as refused:
                head, _, body = refused.makefile("rb").read().partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 503")
            assert checked(json.loads(body))["message"] == "too many connections"

        result = asyncio.run(
            flood(
                host, int(port), 2000, patience=2.0,
                meanwhile=look,
            )
        )  # fmt: skip
        assert result == Flood(opened=2000, turned_away=1980, held=20, refused=0)
        assert kept == [20]
        started = time.monotonic()
        while connections:
            assert time.monotonic() - started < 10
            time.sleep(0.01)
        assert running.post("/v1/embeddings", {"input": "a", "model": "t1-doc"}).is_success
