"""A service over the tiny random model, in this process and over loopback."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx2
import numpy as np
import pytest

from t1_jax.retrieval import BM25, Collection, Document, Index, build_index
from t1_jax.retriever import T1
from t1_jax.serve import ServerConfig
from t1_jax.serve.app import build_app
from t1_jax.serve.metrics import Metrics
from t1_jax.serve.ranking import Corpus
from t1_jax.serve.server import Server
from t1_jax.serve.service import Service
from tests.retriever.conftest import tiny_t1 as tiny_t1

DOCUMENTS = {
    "cat": "A cat purrs. It hunts mice in the barn.",
    "dog": "A dog barks. It guards the yard.",
    "fish": "A fish swims in water.",
    "owl": "An owl hunts mice at night. It flies without a sound.",
    "bee": "A bee makes honey from flowers.",
}
QUERIES = ["who purrs?", "who hunts at night", "what is made from flowers?", "who barks"]
CONFIG = ServerConfig(
    port=0,
    max_thought_tokens=8,
    rows=4,
    max_n=4,
    chunk_steps=2,
    turn_tokens=192,
    max_inputs=16,
    client_seconds=2.0,
    drain_seconds=20.0,
)


@pytest.fixture(scope="session")
def corpus(tiny_t1: T1) -> Corpus:
    """Five documents, with their embeddings and BM25."""
    documents = tuple(Document(id=name, text=text) for name, text in DOCUMENTS.items())
    vectors = tiny_t1.encode_document([document.full_text for document in documents])
    index: Index = build_index("numpy", [document.id for document in documents], vectors)
    return Corpus(
        name="animals",
        index=index,
        documents={document.id: document for document in documents},
        bm25=BM25.build(Collection(name="animals", documents=documents, queries=(), qrels={})),
    )


Serve = Callable[..., "contextlib.AbstractContextManager[Running]"]


class Running:
    """A server that listens on loopback, in a thread of its own."""

    def __init__(self, server: Server, loop: asyncio.AbstractEventLoop) -> None:
        self.server, self.loop = server, loop
        self.state = server._state
        self.url = f"http://127.0.0.1:{server.port}"

    @property
    def service(self) -> Service:
        return self.state.require_service()

    def client(self, **options: Any) -> httpx2.Client:
        return httpx2.Client(base_url=self.url, timeout=60, **options)

    def post(self, path: str, body: Any, **options: Any) -> httpx2.Response:
        with self.client() as client:
            return client.post(path, json=body, **options)

    def get(self, path: str, **options: Any) -> httpx2.Response:
        with self.client() as client:
            return client.get(path, **options)


@contextlib.contextmanager
def serving(
    model: T1, corpus: Corpus | None, config: ServerConfig = CONFIG, *, wait: bool = True
) -> Iterator[Running]:
    """Runs a server until the block ends, and then drains it."""

    def load(config: ServerConfig, metrics: Metrics) -> Service:
        return Service(model, config, metrics, name="tiny", corpus=corpus)

    loop = asyncio.new_event_loop()
    server = Server(build_app(config, load), config)
    thread = threading.Thread(target=lambda: loop.run_until_complete(server.serve()))
    thread.start()
    try:
        while not server.started:
            assert thread.is_alive()
        running = Running(server, loop)
        if wait:
            asyncio.run_coroutine_threadsafe(running.state.ready(), loop).result(120)
        yield running
    finally:
        server.handle_exit(15, None)
        thread.join(60)
        alive = thread.is_alive()
        loop.close()
        assert not alive


@pytest.fixture(scope="session")
def server(tiny_t1: T1, corpus: Corpus) -> Iterator[Running]:
    """One server for all tests that leave it as it is."""
    with serving(tiny_t1, corpus) as running:
        yield running


def assert_same_vectors(served: Sequence[Any] | np.ndarray, offline: np.ndarray) -> None:
    """Embeddings of an answer against those of T1, up to rounding in another batch."""
    vectors = np.asarray(served, np.float32)
    assert vectors.shape == offline.shape
    assert (vectors * offline).sum(axis=-1).min() > 0.99999
