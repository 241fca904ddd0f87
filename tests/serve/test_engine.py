"""The engine: requests share batches and harm each other in nothing."""

import asyncio
import dataclasses
import itertools
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest

from t1_jax.generate import FinishReason, Prompt, SamplingParams, Thought
from t1_jax.retriever import T1, mean_log_probs, thought_tokens
from t1_jax.serve import ServerConfig
from t1_jax.serve.engine import Engine
from t1_jax.serve.failures import RequestError
from t1_jax.serve.jobs import EncodeJob, ScoreJob, ThinkJob
from t1_jax.serve.metrics import Metrics
from t1_jax.text import tokenize_queries
from tests.serve.conftest import CONFIG, DOCUMENTS, QUERIES

SECONDS = 120.0


def start(model: T1, config: ServerConfig = CONFIG) -> Engine:
    engine = Engine(model, config, Metrics())
    engine.start()
    return engine


@pytest.fixture(scope="module")
def engine(tiny_t1: T1) -> Iterator[Engine]:
    engine = start(tiny_t1)
    yield engine
    engine.stop(SECONDS)
    assert not engine.is_alive


@pytest.fixture(scope="module")
def patient(tiny_t1: T1) -> Iterator[Engine]:
    """An engine that allows long thoughts."""
    engine = start(tiny_t1, dataclasses.replace(CONFIG, max_thought_tokens=200))
    yield engine
    engine.stop(SECONDS)


@pytest.fixture(scope="module")
def long_query(tiny_t1: T1, patient: Engine) -> str:
    """A query about which the model thinks for long."""
    for number in range(20):
        one = job(tiny_t1, f"query {number}", max_thought_tokens=60)
        patient.submit(one)
        if result(one)[0].reasoning_tokens >= 40:
            return one.prompt.query_id
    raise AssertionError("no query has a long thought")


def job(model: T1, text: str, **options: Any) -> ThinkJob:
    (row,) = tokenize_queries(
        model.tokenizer, model.preset, [text], max_tokens=model.options.max_query_tokens
    )
    options = {
        "deadline": time.monotonic() + SECONDS, "n": 1, "seed": 0, "max_thought_tokens": 8,
    } | options  # fmt: skip
    return ThinkJob(prompt=Prompt(query_id=text, token_ids=row.ids.tolist()), row=row, **options)


def rows(model: T1, texts: list[str], **options: Any) -> EncodeJob:
    names = [f"input.{i}" for i in range(len(texts))]
    options = {"deadline": time.monotonic() + SECONDS} | options
    return EncodeJob(rows=model.tokenize_documents(texts, names), names=names, **options)


def titles(model: T1, texts: Sequence[str], **options: Any) -> ScoreJob:
    options = {"deadline": time.monotonic() + SECONDS} | options
    prompt = np.array(job(model, QUERIES[0]).prompt.token_ids, np.int32)
    return ScoreJob(prompt=prompt, thoughts=thought_tokens(model, texts), **options)


def result(job: ThinkJob | EncodeJob | ScoreJob) -> Any:
    return job.future.result(SECONDS)


def same(a: list[Thought], b: list[Thought]) -> bool:
    return all(
        x.token_ids.tolist() == y.token_ids.tolist()
        and x.text == y.text
        and x.finish_reason is y.finish_reason
        and np.array_equal(x.embedding, y.embedding)
        for x, y in zip(a, b, strict=True)
    )


def test_served_thoughts_are_the_offline_ones(engine: Engine, tiny_t1: T1):
    jobs = [job(tiny_t1, text) for text in QUERIES]
    engine.submit(*jobs)
    _, offline = tiny_t1.encode_query(
        QUERIES,
        max_thought_tokens=8,
        sampling=SamplingParams(temperature=0.0),
        return_thoughts=True,
    )
    for served, (expected,) in zip(map(result, jobs), offline, strict=True):
        (thought,) = served
        assert thought.token_ids.tolist() == expected.token_ids.tolist()
        assert (thought.text, thought.finish_reason) == (expected.text, expected.finish_reason)
        assert float(thought.embedding @ expected.embedding) > 0.99999


def test_company_changes_no_bit_of_a_thought(engine: Engine, tiny_t1: T1):
    alone = []
    for number, text in enumerate(QUERIES):
        one = job(tiny_t1, text, n=1 + number % 2, seed=number, max_thought_tokens=3 + number)
        engine.submit(one)
        alone.append(result(one))
    together = []
    for repetition in range(3):
        for number, text in enumerate(QUERIES):
            together.append(
                job(tiny_t1, text, n=1 + number % 2, seed=number, max_thought_tokens=3 + number)
            )
        together.append(rows(tiny_t1, list(DOCUMENTS.values())[: 1 + repetition]))
    for one in together:
        engine.submit(one)
    served = [result(one) for one in together]
    thoughts = [
        found for one, found in zip(together, served, strict=True) if isinstance(one, ThinkJob)
    ]
    for number, found in enumerate(thoughts):
        assert same(found, alone[number % len(QUERIES)])


def test_the_batch_fill_is_that_of_the_batches_that_exist(tiny_t1: T1):
    metrics = Metrics()
    engine = Engine(tiny_t1, CONFIG, metrics)
    fills: list[float] = []

    def told(sample: int, tokens: Sequence[int]) -> None:
        fills.append(metrics.batch_fill._value.get())

    jobs = [job(tiny_t1, text, on_tokens=told) for text in QUERIES]  # as many as there are rows
    jobs += [job(tiny_t1, text, n=2, on_tokens=told) for text in QUERIES[:2]]
    engine.submit(*jobs)
    engine.start()
    for one in jobs:
        result(one)
    engine.stop(SECONDS)
    assert max(fills) == 1.0  # two batches, both full


def test_documents_are_the_offline_ones(engine: Engine, tiny_t1: T1):
    texts = [f"{text} {number}" for number in range(3) for text in DOCUMENTS.values()]
    one = rows(tiny_t1, texts)
    engine.submit(one)
    expected = tiny_t1.encode_document(texts)
    assert (result(one) * expected).sum(axis=1).min() > 0.99999


def test_tokens_are_told_as_they_are_chosen(engine: Engine, tiny_t1: T1):
    told: list[tuple[int, tuple[int, ...]]] = []
    one = job(tiny_t1, QUERIES[0], on_tokens=lambda sample, tokens: told.append((sample, tokens)))
    engine.submit(one)
    (thought,) = result(one)
    assert len(told) > 1
    assert told[-1] == (0, tuple(thought.token_ids.tolist()))
    for (_, before), (_, after) in itertools.pairwise(told):
        assert after[: len(before)] == before


def test_at_the_deadline_a_thought_ends_where_it_is(patient: Engine, tiny_t1: T1, long_query: str):
    late = job(tiny_t1, long_query, max_thought_tokens=200)

    def at_once(sample: int, tokens: Sequence[int]) -> None:
        if len(tokens) >= 6:
            late.deadline = 0.0

    late.on_tokens = at_once
    patient.submit(late)
    (thought,) = result(late)
    assert thought.finish_reason is FinishReason.DEADLINE
    assert 5 <= thought.reasoning_tokens < 20
    assert thought.token_ids[-1] == tiny_t1.tokenizer.emb_token_id
    shorter = job(tiny_t1, long_query, max_thought_tokens=thought.reasoning_tokens)
    patient.submit(shorter)
    (expected,) = result(shorter)
    assert thought.token_ids.tolist() == expected.token_ids.tolist()
    assert float(thought.embedding @ expected.embedding) > 0.99999


def test_a_query_that_never_got_a_row_is_embedded_without_a_thought(engine: Engine, tiny_t1: T1):
    late = job(tiny_t1, QUERIES[0], deadline=0.0, n=2)
    engine.submit(late)
    first, second = result(late)
    assert first.finish_reason is FinishReason.DEADLINE
    assert (first.reasoning_tokens, second.sample) == (0, 1)
    expected = tiny_t1.encode_query(QUERIES[0], thoughts=[""])
    assert float(first.embedding @ expected) > 0.99999


@pytest.mark.parametrize("urgent", [False, True])
def test_rows_that_are_late_get_an_error(engine: Engine, tiny_t1: T1, urgent: bool):
    late = rows(tiny_t1, ["a"], deadline=0.0, urgent=urgent)
    engine.submit(late)
    with pytest.raises(RequestError) as error:
        result(late)
    assert error.value.status == 504


LONG_TITLES = [f"{number} is a title of many words" for number in range(32)]


@pytest.fixture
def passes(tiny_t1: T1, monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """The passes of an engine as they come: kind, and number of rows or thoughts."""
    seen: list[tuple[str, int]] = []
    encode = tiny_t1.encoder.encode

    def encoded(rows: Sequence[Any], **options: Any) -> Any:
        seen.append(("encode", len(rows)))
        return encode(rows, **options)

    def scored(model: T1, prompts: Any, thoughts: Any) -> Any:
        seen.append(("score", sum(map(len, thoughts))))
        return mean_log_probs(model, prompts, thoughts)

    monkeypatch.setattr(tiny_t1.encoder, "encode", encoded)
    monkeypatch.setattr("t1_jax.serve.forward.mean_log_probs", scored)
    return seen


def test_titles_are_scored_in_parts_between_rows(tiny_t1: T1, passes: list[tuple[str, int]]):
    engine = Engine(tiny_t1, CONFIG, Metrics())
    titled = titles(tiny_t1, LONG_TITLES)
    rest = titled.cost
    documents = rows(tiny_t1, [text * 4 for text in DOCUMENTS.values()])
    engine.submit(titled, documents)
    engine.start()
    scores = result(titled)
    result(documents)
    engine.stop(SECONDS)
    expected = mean_log_probs(tiny_t1, [titled.prompt], [titled.thoughts])
    assert scores == pytest.approx(expected[0].tolist(), abs=1e-5)
    kinds = [kind for kind, _ in passes]
    together = 2 * min(kinds.count("score"), kinds.count("encode"))
    assert kinds[:together] == ["score", "encode"] * (together // 2)
    counts = [count for kind, count in passes if kind == "score"]
    assert len(counts) >= 2
    assert sum(counts) == len(LONG_TITLES)
    tokens = iter(map(len, titled.thoughts))
    for count in counts:
        spent = len(titled.prompt) + sum(next(tokens) for _ in range(count))
        assert spent <= CONFIG.turn_tokens < rest


def test_titles_that_are_late_get_an_error(tiny_t1: T1, passes: list[tuple[str, int]]):
    engine = Engine(tiny_t1, CONFIG, Metrics())
    late = titles(tiny_t1, ["a"], deadline=0.0)
    halfway = titles(tiny_t1, LONG_TITLES)
    engine.submit(late, halfway)
    run = engine._forward.run
    engine._forward.run = lambda budget: (run(budget), setattr(halfway, "deadline", 0.0))[0]
    engine.start()
    for one in (late, halfway):
        with pytest.raises(RequestError) as error:
            result(one)
        assert error.value.status == 504
    engine.stop(SECONDS)
    assert len(passes) == 1


def test_titles_of_cancelled_jobs_are_not_scored(tiny_t1: T1, passes: list[tuple[str, int]]):
    metrics = Metrics()
    engine = Engine(tiny_t1, CONFIG, metrics)
    gone, halfway = titles(tiny_t1, ["a"]), titles(tiny_t1, LONG_TITLES)
    gone.future.cancel()
    engine.submit(gone, halfway)
    run = engine._forward.run
    engine._forward.run = lambda budget: (run(budget), halfway.future.cancel())[0]
    engine.start()
    engine.stop(SECONDS)
    assert not engine.is_alive
    assert len(passes) == 1
    assert metrics.cancelled._value.get() == 2


def test_titles_that_cannot_be_scored_fail_alone(
    engine: Engine, tiny_t1: T1, monkeypatch: pytest.MonkeyPatch
):
    def failing(model: T1, prompts: Any, thoughts: Any) -> Any:
        if len(thoughts[0]) == 3:
            raise RuntimeError("out of memory at 0x7f")
        scores = mean_log_probs(model, prompts, thoughts)
        return [row * np.float32("nan") for row in scores] if len(thoughts[0]) == 2 else scores

    monkeypatch.setattr("t1_jax.serve.forward.mean_log_probs", failing)
    jobs = [titles(tiny_t1, ["a", "b", "c", "d"][:count]) for count in (3, 2, 1, 4)]
    engine.submit(*jobs)
    errors = [one.future.exception(SECONDS) for one in jobs]
    assert [type(error) for error in errors] == [RequestError, RequestError, type(None), type(None)]
    broken, not_finite = errors[:2]
    assert isinstance(broken, RequestError)
    assert isinstance(not_finite, RequestError)
    assert (broken.status, not_finite.status) == (424, 424)
    assert "0x7f" not in broken.message
    assert "not finite" in not_finite.message


def test_if_one_job_of_a_request_fails_the_others_are_cancelled(
    tiny_t1: T1, patient: Engine, long_query: str
):
    late = rows(tiny_t1, ["a"], deadline=0.0)
    thought = job(tiny_t1, long_query, max_thought_tokens=200)
    with pytest.raises(RequestError) as error:
        asyncio.run(patient.run(late, thought))
    assert error.value.status == 504
    assert thought.future.cancelled()


def test_a_cancelled_job_frees_its_rows(patient: Engine, tiny_t1: T1, long_query: str):
    seen: list[int] = []
    gone = job(
        tiny_t1,
        long_query,
        max_thought_tokens=200,
        on_tokens=lambda _, tokens: seen.append(len(tokens)),
    )
    patient.submit(gone)
    while not seen:
        time.sleep(0.01)
    assert gone.future.cancel()
    while not patient.is_idle:
        time.sleep(0.01)
    assert max(seen) < 190
    waiting = job(tiny_t1, QUERIES[0])
    waiting.future.cancel()
    patient.submit(waiting)
    after = job(tiny_t1, QUERIES[1])
    patient.submit(after)
    assert result(after)
    assert waiting.running == []


def test_too_much_waiting_work_is_turned_away(tiny_t1: T1):
    engine = Engine(tiny_t1, dataclasses.replace(CONFIG, max_waiting_tokens=300), Metrics())
    first = rows(tiny_t1, ["a long list"] * 40)
    engine.submit(first)  # one request is always accepted
    with pytest.raises(RequestError) as error:
        engine.submit(job(tiny_t1, QUERIES[0]))
    assert error.value.status == 429
    with pytest.raises(RequestError, match="tokens are waiting"):
        engine.submit(titles(tiny_t1, ["a title"]))
    assert int(error.value.headers["Retry-After"]) >= 1
    engine.start()
    result(first)
    accepted = job(tiny_t1, QUERIES[0])
    while not engine.is_idle:
        time.sleep(0.01)
    engine.submit(accepted)
    assert result(accepted)
    engine.stop(SECONDS)


def test_a_failure_of_the_sampler_is_tried_again_and_leaves_the_others_right(
    engine: Engine, tiny_t1: T1, monkeypatch: pytest.MonkeyPatch
):
    from t1_jax.generate import ContinuousBatch

    expected = job(tiny_t1, QUERIES[1])
    engine.submit(expected)
    wanted = result(expected)
    decode_chunk, insert = ContinuousBatch.decode_chunk, ContinuousBatch.insert
    failures = iter([True])

    def failing_once(self):
        if next(failures, False):
            raise RuntimeError("out of memory")
        return decode_chunk(self)

    def failing_for_one(self, prompt, **options):
        if prompt.query_id == QUERIES[0]:
            raise RuntimeError("this query is poison")
        return insert(self, prompt, **options)

    monkeypatch.setattr(ContinuousBatch, "decode_chunk", failing_once)
    jobs = [job(tiny_t1, text) for text in QUERIES[1:]]
    engine.submit(*jobs)
    assert same(result(jobs[0]), wanted)
    assert all(result(one) for one in jobs)
    monkeypatch.setattr(ContinuousBatch, "insert", failing_for_one)
    jobs = [job(tiny_t1, text) for text in QUERIES]
    engine.submit(*jobs)
    assert same(result(jobs[1]), wanted)
    with pytest.raises(RequestError) as error:
        result(jobs[0])
    assert error.value.status == 424
    assert "poison" not in error.value.message


def test_one_bad_row_fails_alone(engine: Engine, tiny_t1: T1, monkeypatch: pytest.MonkeyPatch):
    encode = tiny_t1.encoder.encode

    def failing_for_one(rows, *, names, description):
        if "input.1" in names:
            from t1_jax.errors import DataError

            raise DataError("input.1: the model's embedding is not finite")
        return encode(rows, names=names, description=description)

    monkeypatch.setattr(tiny_t1.encoder, "encode", failing_for_one)
    bad, good = rows(tiny_t1, ["a", "b"]), rows(tiny_t1, ["c"])
    engine.submit(bad, good)
    assert result(good).shape == (1, tiny_t1.embed_dim)
    with pytest.raises(RequestError, match="not finite") as error:
        result(bad)
    assert error.value.status == 424


def test_a_thought_that_is_not_finite_is_an_error_of_its_request(
    engine: Engine, tiny_t1: T1, monkeypatch: pytest.MonkeyPatch
):
    from t1_jax.generate import ContinuousBatch

    decode_chunk = ContinuousBatch.decode_chunk

    def with_nan(self):
        return [
            (running, dataclasses.replace(thought, embedding=thought.embedding * np.float32("nan")))
            if running.max_tokens == 7
            else (running, thought)
            for running, thought in decode_chunk(self)
        ]

    monkeypatch.setattr(ContinuousBatch, "decode_chunk", with_nan)
    bad, good = job(tiny_t1, QUERIES[0], max_thought_tokens=7), job(tiny_t1, QUERIES[1])
    engine.submit(bad, good)
    assert np.isfinite(result(good)[0].embedding).all()
    with pytest.raises(RequestError) as error:
        result(bad)
    assert error.value.status == 424


def test_a_settled_thought_ends_early(
    patient: Engine, tiny_t1: T1, long_query: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("t1_jax.serve.engine.Settling", lambda: _settling(-1.0))
    one = job(tiny_t1, long_query, max_thought_tokens=200, stop_when_settled=True)
    patient.submit(one)
    (thought,) = result(one)
    assert thought.finish_reason is FinishReason.SETTLED
    assert 8 <= thought.reasoning_tokens <= 14
    fixed = job(tiny_t1, long_query, max_thought_tokens=thought.reasoning_tokens)
    patient.submit(fixed)
    (expected,) = result(fixed)
    assert thought.token_ids.tolist() == expected.token_ids.tolist()
    assert float(thought.embedding @ expected.embedding) > 0.99999


def _settling(cosine: float) -> Any:
    from t1_jax.serve.adaptive import Settling

    return Settling(cosine)


def test_stopping_finishes_what_was_accepted(tiny_t1: T1):
    engine = start(tiny_t1)
    jobs = [job(tiny_t1, text) for text in QUERIES] + [rows(tiny_t1, list(DOCUMENTS.values()))]
    engine.submit(*jobs)
    engine.stop(SECONDS)
    assert not engine.is_alive
    assert all(one.future.done() for one in jobs)
    assert all(one.future.exception() is None for one in jobs)
