"""A teacher on this machine that says what a test tells it to, and fails when it is told to."""

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

Reply = Callable[[int, dict[str, Any]], tuple[int, str]]
"""Number of the request and its body -> status and what is sent."""


def said(text: object) -> str:
    return json.dumps({"choices": [{"message": {"role": "assistant", "content": text}}]})


@dataclass
class FakeTeacher:
    reply: Reply = lambda number, body: (200, said(f"thought {number}"))
    headers: dict[str, str] = field(default_factory=dict)
    requests: list[dict[str, Any]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.fixture
def fake_teacher() -> Iterator[FakeTeacher]:
    teacher = FakeTeacher()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with teacher.lock:
                teacher.requests.append({"path": self.path, **body})
                teacher.keys.append(self.headers.get("Authorization"))
                status, text = teacher.reply(len(teacher.requests), body)
            self.send_response(status)
            for name, value in teacher.headers.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    teacher.url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield teacher
    server.shutdown()
    server.server_close()
    thread.join()
