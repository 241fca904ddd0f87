"""LlamaIndex searches with T1; needs the extra `llama-index`."""

import asyncio
import threading
from pathlib import Path

import numpy as np
import pytest

from t1_jax.integrations.remote import RemoteT1
from t1_jax.retrieval import Hits
from t1_jax.retriever import T1, Searcher

pytest.importorskip("llama_index.core", reason="needs t1_jax[llama-index]")

from llama_index.core import VectorStoreIndex
from llama_index.core.schema import TextNode

from t1_jax.integrations.llama_index import T1Embedding, T1Retriever

TEXTS = ["a lock is never released", "an array is written past its end", "a path has '..'"]


def test_an_index_ranks_as_t1_does(tiny_t1: T1):
    query = "who writes past the end?"
    model = T1Embedding(tiny_t1, max_thought_tokens=4)
    index = VectorStoreIndex([TextNode(text=text) for text in TEXTS], embed_model=model)
    found = index.as_retriever(similarity_top_k=3).retrieve(query)
    vector = tiny_t1.encode_query(query, max_thought_tokens=4)
    scores = tiny_t1.similarity(vector, tiny_t1.encode_document(TEXTS))
    order = scores.argsort()[::-1]
    assert [result.node.get_content() for result in found] == [TEXTS[row] for row in order]
    np.testing.assert_allclose([result.score for result in found], scores[order], atol=1e-5)
    assert asyncio.run(model.aget_query_embedding(query)) == pytest.approx(vector.tolist())
    assert model.get_text_embedding(TEXTS[0]) == pytest.approx(
        tiny_t1.encode_document(TEXTS[0]).tolist()
    )


class Slow(RemoteT1):
    """Answers once the event loop has had a turn, or else too late."""

    def __init__(self, turn: threading.Event) -> None:
        super().__init__("http://127.0.0.1:9")
        self._turn = turn

    def encode_query(self, texts, **_):
        assert self._turn.wait(5)
        return np.zeros(2, np.float32)

    def encode_document(self, texts):
        assert self._turn.wait(5)
        return np.zeros(2 if isinstance(texts, str) else (len(texts), 2), np.float32)

    def search(self, query, k=10, **_):
        assert self._turn.wait(5)
        return Hits(query=query, ranking="dense", thoughts=(), hits=())


@pytest.mark.parametrize("of", ["query", "text", "texts", "search"])
def test_the_event_loop_goes_on_meanwhile(of: str):
    turn = threading.Event()
    model, retriever = T1Embedding(Slow(turn)), T1Retriever(Slow(turn))

    async def run() -> None:
        work = {
            "query": lambda: model.aget_query_embedding("a"),
            "text": lambda: model.aget_text_embedding("a"),
            "texts": lambda: model.aget_text_embedding_batch(["a", "b"]),
            "search": lambda: retriever.aretrieve("a"),
        }[of]()
        task = asyncio.ensure_future(work)
        await asyncio.sleep(0.01)
        turn.set()
        await task

    asyncio.run(run())


def test_a_retriever_over_files(tmp_path: Path):
    (tmp_path / "locks.md").write_text("# Locks\n\nA lock is never released.\n")
    (tmp_path / "paths.md").write_text("# Paths\n\nA path has '..' in it.\n")
    (found,) = T1Retriever(Searcher.open(tmp_path, ranking="bm25"), k=1).retrieve("which lock?")
    assert found.node.get_content() == "A lock is never released."
    assert found.node.metadata == {
        "title": "Locks",
        "sentence": "A lock is never released.",
        "path": str(tmp_path / "locks.md"),
        "line": 3,
    }
