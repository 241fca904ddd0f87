"""LangChain searches with T1; needs the extra `langchain`."""

from pathlib import Path

import numpy as np
import pytest

from t1_jax.retriever import T1, Searcher

pytest.importorskip("langchain_core", reason="needs t1_jax[langchain]")

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from t1_jax.integrations.langchain import T1Embeddings, T1Retriever

TEXTS = ["a lock is never released", "an array is written past its end", "a path has '..'"]


def test_a_vector_store_ranks_as_t1_does(tiny_t1: T1):
    query = "who writes past the end?"
    embeddings = T1Embeddings(tiny_t1, max_thought_tokens=4)
    store = InMemoryVectorStore(embeddings)
    store.add_documents([Document(page_content=text) for text in TEXTS])
    found = store.similarity_search_with_score(query, k=3)
    vector = tiny_t1.encode_query(query, max_thought_tokens=4)
    scores = tiny_t1.similarity(vector, tiny_t1.encode_document(TEXTS))
    order = scores.argsort()[::-1]
    assert [document.page_content for document, _ in found] == [TEXTS[row] for row in order]
    np.testing.assert_allclose([score for _, score in found], scores[order], atol=1e-5)


def test_a_retriever_over_files(tmp_path: Path):
    (tmp_path / "locks.md").write_text("# Locks\n\nA lock is never released.\n")
    (tmp_path / "paths.md").write_text("# Paths\n\nA path has '..' in it.\n")
    retriever = T1Retriever(searcher=Searcher.open(tmp_path, ranking="bm25"), k=1)
    (document,) = retriever.invoke("which lock is released?")
    assert document.page_content == "A lock is never released."
    assert document.metadata["path"] == str(tmp_path / "locks.md")
    assert (document.metadata["title"], document.metadata["line"]) == ("Locks", 3)
