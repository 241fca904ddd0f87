"""The service with a cache of thoughts, and with one that cannot be written."""

import asyncio
import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from t1_jax.generate import ContinuousBatch
from t1_jax.retriever import T1, Provenance, ThoughtCache
from t1_jax.serve import Metrics, ServerConfig, Service
from t1_jax.serve.failures import RequestError
from t1_jax.serve.queries import QueryResult
from tests.retriever.conftest import tiny_origin as tiny_origin
from tests.serve.conftest import CONFIG, QUERIES


def service_with(
    model: T1, provenance: Provenance, cache: ThoughtCache, config: ServerConfig = CONFIG
) -> Service:
    known = T1(
        model.decoder, model.tokenizer, model.preset, model.mesh_context, options=model.options,
        provenance=provenance, thought_cache=cache,
    )  # fmt: skip
    return Service(known, config, Metrics(), name="tiny")


@pytest.fixture
def cached(tiny_t1: T1, tiny_origin: Provenance, tmp_path: Path) -> Iterator[Service]:
    service = service_with(tiny_t1, tiny_origin, ThoughtCache(tmp_path / "thoughts.sqlite"))
    yield service
    service.engine.stop(60.0)


def ask(service: Service, texts: list[str], **options) -> list[QueryResult]:
    return asyncio.run(service.embed_queries(texts, service.think_options(**options)))


def test_a_known_thought_is_read_back_bit_for_bit(cached: Service):
    first = ask(cached, QUERIES)
    second = ask(cached, [*QUERIES, "another"])
    assert [result.cached for result in first] == [False] * 4
    assert [result.cached for result in second] == [True] * 4 + [False]
    for one, two in zip(first, second, strict=False):
        assert np.array_equal(one.vector, two.vector)
        assert one.thoughts[0].text == two.thoughts[0].text
    several = ask(cached, QUERIES[:1], n=2, seed=1)
    assert not several[0].cached
    assert [t.sample for t in ask(cached, QUERIES[:1], n=2, seed=1)[0].thoughts] == [0, 1]
    assert not ask(cached, QUERIES[:1], n=2, seed=2)[0].cached
    text = cached.metrics.text().decode()
    assert 't1_cache_lookups_total{result="hit"} 5.0' in text


def test_thoughts_that_were_cut_short_are_not_kept(cached: Service):
    assert not ask(cached, QUERIES[:1], deadline=1e-9)[0].cached
    assert not ask(cached, QUERIES[:1])[0].cached
    assert not ask(cached, QUERIES[:1], think="auto")[0].cached


def test_a_cache_that_cannot_be_written_stops_no_request(
    tiny_t1: T1, tiny_origin: Provenance, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    (tmp_path / "file").write_text("not a folder")
    service = service_with(tiny_t1, tiny_origin, ThoughtCache(tmp_path / "file" / "thoughts"))
    try:
        assert [result.cached for result in ask(service, QUERIES[:2])] == [False, False]
        assert [result.cached for result in ask(service, QUERIES[:2])] == [False, False]
    finally:
        service.engine.stop(60.0)
    assert "thoughts are not stored" in caplog.text


def test_a_disk_that_fills_up_stops_no_request(
    tiny_t1: T1, tiny_origin: Provenance, tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    cache = ThoughtCache(tmp_path / "thoughts.sqlite")
    service = service_with(tiny_t1, tiny_origin, cache)
    try:
        first = ask(service, QUERIES[:1])
        pages = cache._open().execute("PRAGMA page_count").fetchone()[0]
        cache._open().execute(f"PRAGMA max_page_count = {pages}")  # SQLite then has a full disk
        texts = [f"{text} {number}" for text in QUERIES for number in range(8)]
        assert not any(result.cached for result in ask(service, texts, think=2))
        (again,) = ask(service, QUERIES[:1])
        assert again.cached
        assert np.array_equal(again.vector, first[0].vector)
    finally:
        service.engine.stop(60.0)
    assert caplog.text.count("disk is full; thoughts are not stored") == 1


@pytest.mark.parametrize("log_texts", [False, True])
def test_texts_are_logged_only_on_request(
    log_texts: bool, tiny_t1: T1, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
):
    def broken(self, prompt, **options):
        raise RuntimeError("out of memory")

    caplog.set_level("DEBUG")
    config = dataclasses.replace(CONFIG, log_texts=log_texts)
    service = Service(tiny_t1, config, Metrics(), name="tiny")
    try:
        (result,) = ask(service, ["my secret illness"])
        asyncio.run(service.embed_documents(["my secret diary"], deadline=service.deadline()))
        monkeypatch.setattr(ContinuousBatch, "insert", broken)
        with pytest.raises(RequestError):
            ask(service, ["my secret plan"])
    finally:
        service.engine.stop(60.0)
    assert "a request failed" in caplog.text
    assert ("secret" in caplog.text) == log_texts
    assert result.thoughts[0].text not in caplog.text
