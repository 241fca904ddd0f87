"""Software that knows OpenAI, LangChain or LlamaIndex work against the service."""

import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError, RetryableError
from t1_jax.generate import SamplingParams
from t1_jax.integrations.remote import RemoteT1
from t1_jax.retriever import T1, Searcher, Verification
from t1_jax.serve.ranking import Corpus
from tests.serve.conftest import DOCUMENTS, QUERIES, Running, assert_same_vectors

pytestmark = pytest.mark.enable_socket
TEXTS = list(DOCUMENTS.values())
GREEDY = SamplingParams(temperature=0.0)


def ranked(tiny_t1: T1, query: str, k: int) -> list[str]:
    vector = tiny_t1.encode_query(query, max_thought_tokens=8, sampling=GREEDY)
    scores = tiny_t1.encode_document(TEXTS) @ vector
    return [list(DOCUMENTS)[row] for row in np.argsort(-scores)[:k]]


def test_the_openai_client(server: Running, tiny_t1: T1):
    openai = pytest.importorskip("openai", reason="needs the openai client")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        answer = client.embeddings.create(model="t1-query", input=QUERIES)  # asks for base64
        vectors = tiny_t1.encode_query(QUERIES, max_thought_tokens=8, sampling=GREEDY)
        assert_same_vectors([item.embedding for item in answer.data], vectors)
        assert answer.usage.total_tokens > answer.usage.prompt_tokens > 0
        answer = client.embeddings.create(
            model="t1-doc", input=TEXTS, encoding_format="float", dimensions=16
        )
        expected = tiny_t1.encode_document(TEXTS, truncate_dim=16)
        assert_same_vectors([item.embedding for item in answer.data], expected)
        assert {model.id for model in client.models.list()} >= {"t1-query", "t1-doc"}
        with pytest.raises(openai.UnprocessableEntityError) as error:
            client.embeddings.create(model="tiny", input="a")
        assert error.value.param == "input_type"
        with pytest.raises(openai.NotFoundError, match="gpt"):
            client.embeddings.create(model="gpt", input="a")


def test_the_client_of_this_package(server: Running, tiny_t1: T1):
    remote = RemoteT1(server.url + "/")
    vectors = tiny_t1.encode_query(QUERIES, max_thought_tokens=8, sampling=GREEDY)
    assert_same_vectors(remote.encode_query(QUERIES), vectors)
    assert_same_vectors(remote.encode_query(QUERIES[0])[None], vectors[:1])
    plain = tiny_t1.encode_query(QUERIES, think=False)
    assert_same_vectors(remote.encode_query(QUERIES, think=False), plain)
    assert_same_vectors(remote.encode_document(TEXTS), tiny_t1.encode_document(TEXTS))
    hits = remote.search(QUERIES[0], 3)
    assert [hit.id for hit in hits] == ranked(tiny_t1, QUERIES[0], 3)
    assert all(hit.text == DOCUMENTS[hit.id] for hit in hits)
    assert hits.ranking == "dense"
    assert len(hits.thoughts) == 1
    given = remote.search(QUERIES[0], 2, thoughts="It purrs.")
    assert (len(given), given.thoughts) == (2, ("It purrs.",))
    assert remote.search(QUERIES[0], think=False).thoughts == ()
    assert remote.search(QUERIES[0], ranking="bm25").ranking == "bm25"
    sampling = SamplingParams(temperature=0.7, seed=5)
    several = tiny_t1.encode_query(QUERIES, n=2, max_thought_tokens=8, sampling=sampling)
    assert_same_vectors(remote.encode_query(QUERIES, n=2, seed=5), several)
    assert len(remote.search(QUERIES[0], n=2, seed=5, think="auto").thoughts) == 2
    with pytest.raises(ConfigError, match="allows 8"):
        remote.encode_query(QUERIES[0], max_thought_tokens=99)
    with pytest.raises(ConfigError, match="show no candidates"):
        remote.search(QUERIES[0], candidates=2)
    with pytest.raises(DataError, match="empty"):
        remote.encode_document(["a", ""])
    with pytest.raises(RetryableError, match="cannot be reached"):
        RemoteT1("http://127.0.0.1:9").search("a")
    with pytest.raises(ConfigError, match="not an address"):
        RemoteT1("localhost")


def test_the_client_asks_for_a_verified_ranking(server: Running, corpus: Corpus, tiny_t1: T1):
    searcher = Searcher(corpus.documents, index=corpus.index, model=tiny_t1)
    options = {"think": False, "verify": Verification(k=3)}
    expected = searcher.search(QUERIES[0], 4, **options)
    found = RemoteT1(server.url).search(QUERIES[0], 4, think=False, verify=3)
    assert [hit.id for hit in found] == [hit.id for hit in expected]
    assert [hit.score for hit in found] == pytest.approx([hit.score for hit in expected], abs=1e-3)


def test_langchain(server: Running, tiny_t1: T1):
    pytest.importorskip("langchain_core", reason="needs t1_jax[langchain]")
    from t1_jax.integrations.langchain import T1Embeddings, T1Retriever

    remote = RemoteT1(server.url)
    embeddings = T1Embeddings(remote, max_thought_tokens=8)
    query = tiny_t1.encode_query(QUERIES[0], max_thought_tokens=8, sampling=GREEDY)
    assert_same_vectors([embeddings.embed_query(QUERIES[0])], query[None])
    assert_same_vectors(embeddings.embed_documents(TEXTS), tiny_t1.encode_document(TEXTS))
    found = T1Retriever(searcher=remote, k=3).invoke(QUERIES[0])
    assert [document.id for document in found] == ranked(tiny_t1, QUERIES[0], 3)
    assert found[0].page_content == DOCUMENTS[str(found[0].id)]


def test_llama_index(server: Running, tiny_t1: T1):
    pytest.importorskip("llama_index.core", reason="needs t1_jax[llama-index]")
    from t1_jax.integrations.llama_index import T1Embedding, T1Retriever

    remote = RemoteT1(server.url)
    model = T1Embedding(remote, max_thought_tokens=8)
    query = tiny_t1.encode_query(QUERIES[0], max_thought_tokens=8, sampling=GREEDY)
    assert_same_vectors([model.get_query_embedding(QUERIES[0])], query[None])
    found = T1Retriever(remote, k=3, max_thought_tokens=8).retrieve(QUERIES[0])
    assert [node.node_id for node in found] == ranked(tiny_t1, QUERIES[0], 3)
