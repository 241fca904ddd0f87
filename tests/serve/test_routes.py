"""Every route of the service, over loopback, against the offline answers."""

import base64
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from t1_jax.retrieval import Fingerprint, build_index, load_index
from t1_jax.retriever import T1
from t1_jax.serve.ranking import Corpus
from tests.serve.conftest import DOCUMENTS, QUERIES, Running, assert_same_vectors, serving

pytestmark = pytest.mark.enable_socket
GREEDY = {"sampling": None}


def offline(tiny_t1: T1, texts, **options):
    from t1_jax.generate import SamplingParams

    options = {"max_thought_tokens": 8, "sampling": SamplingParams(temperature=0.0)} | options
    return tiny_t1.encode_query(texts, return_thoughts=True, **options)


def test_queries_are_embedded_after_a_thought(server: Running, tiny_t1: T1):
    answer = server.post("/v1/embeddings", {"input": QUERIES, "model": "t1-query"})
    assert answer.status_code == 200
    body = answer.json()
    vectors, thoughts = offline(tiny_t1, QUERIES)
    assert_same_vectors([item["embedding"] for item in body["data"]], vectors)
    assert [item["index"] for item in body["data"]] == [0, 1, 2, 3]
    for item, (thought,) in zip(body["data"], thoughts, strict=True):
        assert item["thoughts"] == [
            {
                "sample": 0,
                "text": thought.text,
                "tokens": thought.reasoning_tokens,
                "finish_reason": thought.finish_reason.value,
            }
        ]
    usage = body["usage"]
    assert usage["thought_tokens"] == sum(t.reasoning_tokens for (t,) in thoughts)
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["thought_tokens"]


def test_documents_and_queries_without_a_thought(server: Running, tiny_t1: T1):
    texts = list(DOCUMENTS.values())
    body = server.post("/v1/embeddings", {"input": texts, "model": "t1-doc"}).json()
    assert_same_vectors([i["embedding"] for i in body["data"]], tiny_t1.encode_document(texts))
    by_type = server.post(
        "/v1/embeddings", {"input": texts[0], "model": "tiny", "input_type": "document"}
    ).json()
    assert by_type["data"][0]["embedding"] == body["data"][0]["embedding"]
    plain = server.post("/v1/embeddings", {"input": QUERIES, "model": "t1-query-nothink"}).json()
    assert_same_vectors(
        [item["embedding"] for item in plain["data"]], tiny_t1.encode_query(QUERIES, think=False)
    )
    assert plain["usage"]["thought_tokens"] == 0


def test_dimensions_and_base64(server: Running, tiny_t1: T1):
    request = {"input": "who purrs?", "model": "t1-query", "dimensions": 8}
    floats = server.post("/v1/embeddings", request).json()["data"][0]["embedding"]
    text = server.post("/v1/embeddings", request | {"encoding_format": "base64"}).json()
    packed = np.frombuffer(base64.b64decode(text["data"][0]["embedding"]), "<f4")
    assert np.array_equal(packed, np.asarray(floats, np.float32))
    expected, _ = offline(tiny_t1, "who purrs?", truncate_dim=8)
    assert_same_vectors([floats], expected[None])


def test_several_thoughts_give_their_mean_and_a_spread(server: Running, tiny_t1: T1):
    from t1_jax.generate import SamplingParams

    body = server.post(
        "/v1/embeddings", {"input": "who purrs?", "model": "t1-query", "n": 3, "seed": 5}
    ).json()
    vector, (thoughts,) = offline(
        tiny_t1, ["who purrs?"], n=3, sampling=SamplingParams(temperature=0.7, seed=5)
    )
    (item,) = body["data"]
    assert [thought["text"] for thought in item["thoughts"]] == [t.text for t in thoughts]
    assert_same_vectors([item["embedding"]], vector)
    mean = np.mean([thought.embedding for thought in thoughts], axis=0)
    assert item["spread"] == pytest.approx(1 - np.linalg.norm(mean), abs=1e-5)


def test_user_supplied_thoughts_and_beginnings(server: Running, tiny_t1: T1):
    thought = "It is a small animal that purrs."
    request = {"input": "who purrs?", "model": "t1-query"}
    body = server.post("/v1/embeddings", request | {"thoughts": [thought]}).json()
    expected = tiny_t1.encode_query(["who purrs?"], thoughts=[thought])
    assert_same_vectors([body["data"][0]["embedding"]], expected)
    (item,) = server.post(
        "/v1/embeddings", request | {"thought_prefix": "It is a", "think": 3}
    ).json()["data"]
    assert item["thoughts"][0]["text"].startswith("It is a")
    assert item["thoughts"][0]["tokens"] <= 3


def test_only_a_thought_may_end_at_the_deadline(server: Running):
    def embed(model: str):
        body = {"input": "who purrs?", "model": model, "deadline": 1e-9}
        return server.post("/v1/embeddings", body)

    (item,) = embed("t1-query").json()["data"]
    assert item["thoughts"][0]["finish_reason"] == "deadline"
    for model in ("t1-doc", "t1-query-nothink"):
        assert embed(model).status_code == 504


def test_search_finds_what_the_vectors_find(server: Running, tiny_t1: T1):
    body = server.post("/v1/search", {"query": QUERIES, "k": 3, "ranking": "dense"}).json()
    vectors, thoughts = offline(tiny_t1, QUERIES)
    scores = vectors @ tiny_t1.encode_document(list(DOCUMENTS.values())).T
    names = list(DOCUMENTS)
    for result, row, (thought,) in zip(body["results"], scores, thoughts, strict=True):
        assert [hit["id"] for hit in result["hits"]] == [names[i] for i in np.argsort(-row)[:3]]
        assert result["thoughts"][0]["text"] == thought.text
        for rank, hit in enumerate(result["hits"], 1):
            assert hit["rank"] == rank
            assert hit["text"] == DOCUMENTS[hit["id"]]
            assert hit["sentence"] in DOCUMENTS[hit["id"]]


def test_search_rankings_and_filters(server: Running):
    def found(**request):
        answer = server.post("/v1/search", {"query": "who hunts mice at night", "k": 5} | request)
        assert answer.status_code == 200, answer.text
        return [hit["id"] for hit in answer.json()["results"][0]["hits"]]

    assert found(ranking="bm25", think="off")[0] == "owl"
    assert sorted(found(ranking="hybrid")) == sorted(DOCUMENTS)
    assert sorted(found(n=2, fusion="rank")) == sorted(DOCUMENTS)
    assert sorted(found(filter={"ids": ["cat", "bee"]})) == ["bee", "cat"]
    assert "owl" not in found(filter={"exclude": ["owl"]})
    assert found(filter={"path": "*.md"}) == []
    assert found(ranking="bm25", think="off", filter={"exclude": ["owl"]})[0] != "owl"


def test_texts_can_be_left_out(server: Running):
    body = server.post("/v1/search", {"query": "who purrs?", "return_text": False}).json()
    assert "text" not in body["results"][0]["hits"][0]


def test_embed_rerank_and_similarity_as_in_tei(server: Running, tiny_t1: T1):
    texts = list(DOCUMENTS.values())
    documents = tiny_t1.encode_document(texts)
    assert_same_vectors(server.post("/embed", {"inputs": texts}).json(), documents)
    query, _ = offline(tiny_t1, "who purrs?")
    body = {"inputs": "who purrs?", "prompt_name": "query"}
    assert_same_vectors(server.post("/embed", body).json(), query[None])
    scores = documents @ query
    asked = {"query": "who purrs?", "texts": texts}
    ranked = server.post("/rerank", asked).json()
    order = np.argsort(-scores).tolist()
    assert [item["index"] for item in ranked] == order
    sigmoids = 1 / (1 + np.exp(-scores[order]))  # the default there: raw_scores is false
    assert [item["score"] for item in ranked] == pytest.approx(sigmoids.tolist(), abs=1e-4)
    raw = server.post("/rerank", asked | {"return_text": True, "raw_scores": True}).json()
    assert [item["score"] for item in raw] == pytest.approx(scores[order].tolist(), abs=1e-4)
    assert all(item["text"] == texts[item["index"]] for item in raw)
    inputs = {"source_sentence": "who purrs?", "sentences": texts}
    served = server.post("/similarity", {"inputs": inputs}).json()
    assert served == pytest.approx(scores.tolist(), abs=1e-4)


@pytest.mark.parametrize("rejects", [False, True])
def test_long_texts_are_truncated_as_the_request_or_else_the_server_says(
    server: Running, monkeypatch: pytest.MonkeyPatch, rejects: bool
):
    config = dataclasses.replace(server.service.config, reject_long_texts=rejects)
    monkeypatch.setattr(server.service, "config", config)
    long = "who purrs? " * 500
    similar = {"inputs": {"source_sentence": "who purrs?", "sentences": [long]}}
    for path, body, nested in [
        ("/embed", {"inputs": long}, False),
        ("/embed", {"inputs": long, "prompt_name": "query"}, False),
        ("/rerank", {"query": "who purrs?", "texts": [long]}, False),
        ("/rerank", {"query": long, "texts": ["A cat purrs."]}, False),
        ("/similarity", similar, True),
    ]:
        for truncate in (None, True, False):
            said = {} if truncate is None else {"truncate": truncate}
            answer = server.post(path, body | ({"parameters": said} if nested else said))
            truncated = not rejects if truncate is None else truncate
            assert answer.status_code == (200 if truncated else 413), (path, truncate)


def test_tokenize_and_decode(server: Running, tiny_t1: T1):
    (tokens,) = server.post("/tokenize", {"inputs": "a cat purrs"}).json()
    ids = [token["id"] for token in tokens]
    assert ids == tiny_t1.tokenizer.tokenizer.encode("a cat purrs").ids
    assert "".join("a cat purrs"[t["start"] : t["stop"]] for t in tokens) == "a cat purrs"
    assert server.post("/decode", {"ids": ids}).json() == ["a cat purrs"]
    assert server.post("/decode", {"ids": [ids, ids[:1]]}).json()[0] == "a cat purrs"


def test_info_models_and_health(server: Running):
    info = server.get("/info").json()
    assert info["model_id"] == "tiny"
    assert info["index"] == {
        "name": "animals",
        "kind": "numpy",
        "documents": 5,
        "ranking": "dense",
        "has_texts": True,
        "changed_on_disk": False,
    }
    names = [model["id"] for model in server.get("/v1/models").json()["data"]]
    assert names == ["tiny", "t1-query", "t1-query-nothink", "t1-doc"]
    health = server.get("/health")
    assert (health.status_code, health.json()) == (200, {"status": "ready"})


def test_metrics_parse_and_count(server: Running):
    from prometheus_client.parser import text_string_to_metric_families

    def value(name, **labels):
        families = text_string_to_metric_families(server.get("/metrics").text)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    before = value("t1_requests_total", route="/v1/embeddings", status="200")
    thought = value("t1_tokens_total", kind="thought")
    server.post("/v1/embeddings", {"input": "who swims?", "model": "t1-query"})
    assert value("t1_requests_total", route="/v1/embeddings", status="200") == before + 1
    assert value("t1_tokens_total", kind="thought") > thought
    assert value("t1_phase_seconds_count", phase="decode") > 0
    assert value("t1_first_token_seconds_count") > 0
    assert value("t1_queue_jobs") == 0


def test_an_index_that_is_replaced_is_used_until_the_end(
    tiny_t1: T1, corpus: Corpus, tmp_path: Path
):
    folder = tmp_path / "index"
    fingerprint = Fingerprint(encoder="e0", prompt="f0", data="d0")
    corpus.index.save(folder, fingerprint)
    mapped = dataclasses.replace(
        corpus, index=load_index(folder, fingerprint), manifest=folder / "manifest.json"
    )
    body = {"query": "who purrs?", "k": 5}
    with serving(tiny_t1, mapped) as running:
        before = running.post("/v1/search", body).json()["results"][0]["hits"]
        assert running.get("/info").json()["index"]["changed_on_disk"] is False
        build_index("numpy", ["other"], np.ones((1, 32))).save(folder, fingerprint, overwrite=True)
        assert running.get("/info").json()["index"]["changed_on_disk"] is True
        assert running.post("/v1/search", body).json()["results"][0]["hits"] == before
        shutil.rmtree(folder)
        assert running.post("/v1/search", body).json()["results"][0]["hits"] == before
