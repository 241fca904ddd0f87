"""LangChain searches with T1; needs the extra `langchain`."""

import numpy as np
import pytest

from t1_jax.retriever import T1

pytest.importorskip("langchain_core", reason="needs t1_jax[langchain]")

from langchain_core.documents import Document
from langchain_core.vectorstores import InMemoryVectorStore

from t1_jax.integrations.langchain import T1Embeddings

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
