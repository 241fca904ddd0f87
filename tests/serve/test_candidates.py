"""`/v1/search` with candidates: two passes, and the thought of `T1.encode_query`."""

import json
import time
from collections.abc import Iterator

import pytest

from t1_jax.generate import SamplingParams
from t1_jax.retriever import T1, CandidateTitles, nearest_candidates
from t1_jax.serve.jobs import AnyJob, EncodeJob, ScoreJob, ThinkJob
from t1_jax.serve.ranking import Corpus
from t1_jax.text import load_preset
from tests.serve.conftest import DOCUMENTS, QUERIES, Running, serving

pytestmark = pytest.mark.enable_socket


@pytest.fixture(scope="module")
def over(tiny_t1: T1) -> T1:
    """The tiny model with prompts that show candidates."""
    return T1(
        tiny_t1.decoder,
        tiny_t1.tokenizer,
        load_preset("t1-candidates"),
        tiny_t1.mesh_context,
        options=tiny_t1.options,
    )


@pytest.fixture(scope="module")
def choosing(over: T1, corpus: Corpus) -> Iterator[Running]:
    with serving(over, corpus) as running:
        yield running


def expected_thoughts(over: T1, corpus: Corpus, excluded: list[int]) -> list[str]:
    texts = QUERIES[:2]
    titles = CandidateTitles(over.tokenizer, corpus.documents)
    first = over.encode_query(texts, think=False)
    shown = nearest_candidates(titles, corpus.index, first, 3, [excluded] * 2)
    _, groups = over.encode_query(
        texts,
        candidates=shown,
        max_thought_tokens=8,
        return_thoughts=True,
        sampling=SamplingParams(temperature=0.0),
    )
    return [group[0].text for group in groups]


def test_the_thought_sees_what_the_first_pass_finds(
    choosing: Running, over: T1, corpus: Corpus
) -> None:
    asked = {"query": QUERIES[:2], "k": 2, "candidates": 3}
    body = choosing.post("/v1/search", asked).json()
    found = [result["thoughts"][0]["text"] for result in body["results"]]
    assert found == expected_thoughts(over, corpus, [])
    without = {**asked, "filter": {"exclude": ["owl"]}}
    body = choosing.post("/v1/search", without).json()
    found = [result["thoughts"][0]["text"] for result in body["results"]]
    assert found == expected_thoughts(over, corpus, [list(DOCUMENTS).index("owl")])
    streamed = choosing.post("/v1/search", {**asked, "query": QUERIES[0], "stream": True})
    last = json.loads(streamed.text.rstrip().rsplit("data: ", 1)[1])
    assert last["thoughts"][0]["text"] == expected_thoughts(over, corpus, [])[0]


def test_all_jobs_of_a_request_have_one_deadline(
    choosing: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    jobs: list[AnyJob] = []
    engine = choosing.service.engine
    submit = engine.submit
    monkeypatch.setattr(engine, "submit", lambda *new: (jobs.extend(new), submit(*new)))
    started = time.monotonic()
    asked = {"query": QUERIES[0], "candidates": 2, "verify": 2, "think": 2, "deadline": 30}
    assert choosing.post("/v1/search", asked).is_success
    assert {type(job) for job in jobs} == {EncodeJob, ThinkJob, ScoreJob}
    (deadline,) = {job.deadline for job in jobs}
    assert started + 30 < deadline < time.monotonic() + 30


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"think": "off"}, "think is off"),
        ({"candidates": 33}, "candidates is 33, and this server allows 32"),
        ({"candidates": -1}, "greater than or equal to 0"),
    ],
)
def test_requests_without_sense(choosing: Running, fields, said) -> None:
    answer = choosing.post("/v1/search", {"query": "x", "candidates": 2, **fields})
    assert answer.status_code == 422
    assert answer.json()["error"]["field"] == "candidates"
    assert said in answer.json()["error"]["message"]


def test_a_model_that_was_not_trained_so(server: Running) -> None:
    answer = server.post("/v1/search", {"query": "x", "candidates": 2})
    assert answer.status_code == 422
    assert "'t1' of this model show no candidates" in answer.json()["error"]["message"]
