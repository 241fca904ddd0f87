"""`RemoteT1` against answers of a service that fails, or of something that is not a T1."""

import contextlib
import http.server
import json
import threading
from collections.abc import Iterator

import pytest

from t1_jax.errors import ConfigError, DataError, RetryableError, T1Error
from t1_jax.integrations.remote import RemoteT1
from t1_jax.serve.failures import RequestError

pytestmark = pytest.mark.enable_socket


@contextlib.contextmanager
def answering(status: int, body: bytes, *, cut: bool = False) -> Iterator[RemoteT1]:
    """A server that gives every request the same answer, or ends in the middle of it."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body) + cut))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield RemoteT1(f"http://127.0.0.1:{server.server_port}")
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        *((status, RetryableError) for status in (408, 424, 429, 500, 502, 503, 504)),
        *((status, ConfigError) for status in (401, 403, 404, 413, 422)),
        (400, DataError),
    ],
)
def test_a_failure_that_may_pass_is_told_from_a_wrong_request(status: int, kind: type[T1Error]):
    failure = RequestError(status, "some", "it went wrong", hint="do this")
    with answering(status, json.dumps(failure.body).encode()) as remote:
        with pytest.raises(kind, match="it went wrong") as error:
            remote.encode_query("a")
        assert error.value.hint == ("do this" if status != 401 else error.value.hint)
        assert ("api_key=" in str(error.value.hint)) == (status == 401)


@pytest.mark.parametrize(
    ("status", "body"),
    [(404, b"<html>"), (404, b'{"detail": 1}'), (200, b"<html>"), (200, b"[]"), (200, b"{}")],
)
def test_what_is_not_a_t1(status: int, body: bytes):
    with (
        answering(status, body) as remote,
        pytest.raises(ConfigError, match="hint: check that `t1 serve` listens"),
    ):
        remote.search("a")


def test_an_answer_that_breaks_off():
    with answering(200, b"{", cut=True) as remote, pytest.raises(RetryableError, match="reached"):
        remote.encode_document("a")


@pytest.mark.parametrize("think", [False, "auto"])
def test_a_limit_that_would_do_nothing_is_rejected(think):
    remote = RemoteT1("http://127.0.0.1:9")
    for method in (remote.encode_query, remote.search):
        with pytest.raises(ConfigError, match="max_thought_tokens would do nothing"):
            method("a", think=think, max_thought_tokens=4)
