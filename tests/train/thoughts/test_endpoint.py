import socket

import pytest

from t1_jax.errors import ConfigError
from t1_jax.train.thoughts import Endpoint, EndpointError, complete_chat
from tests.train.thoughts.conftest import FakeTeacher, said

pytestmark = pytest.mark.enable_socket


def test_a_question_is_asked_with_its_key(fake_teacher: FakeTeacher):
    fake_teacher.reply = lambda number, body: (200, said(body["messages"][0]["content"].upper()))
    endpoint = Endpoint(url=fake_teacher.url + "/", key="secret")
    body = {"model": "m", "messages": [{"role": "user", "content": "why?"}]}
    assert complete_chat(endpoint, body) == "WHY?"
    assert fake_teacher.requests == [{"path": "/v1/chat/completions", **body}]
    assert fake_teacher.keys == ["Bearer secret"]
    complete_chat(Endpoint(url=fake_teacher.url), body)
    assert fake_teacher.keys[1] is None


def test_no_content_is_an_empty_answer(fake_teacher: FakeTeacher):
    fake_teacher.reply = lambda number, body: (200, said(None))
    assert complete_chat(Endpoint(url=fake_teacher.url), {}) == ""


def test_content_in_parts_is_joined(fake_teacher: FakeTeacher):
    parts = [{"type": "text", "text": "be"}, {"type": "image"}, {"type": "text", "text": "cause"}]
    fake_teacher.reply = lambda number, body: (200, said(parts))
    assert complete_chat(Endpoint(url=fake_teacher.url), {}) == "because"
    fake_teacher.reply = lambda number, body: (200, said(3))
    with pytest.raises(EndpointError, match=r"message\.content is not text: 3"):
        complete_chat(Endpoint(url=fake_teacher.url, retries=0), {})


def test_half_a_letter_is_asked_for_again(fake_teacher: FakeTeacher):
    """JSON can escape one half of a surrogate pair, which no file of answers could hold."""
    answers = [said("a \ud83d b"), said("whole")]
    fake_teacher.reply = lambda number, body: (200, answers[number - 1])
    endpoint = Endpoint(url=fake_teacher.url)
    assert complete_chat(endpoint, {}, sleep=lambda seconds: None) == "whole"


def test_what_may_pass_is_asked_again_ever_later(fake_teacher: FakeTeacher):
    answers = [(500, "oops"), (429, "slow down"), (200, "no json"), (200, "{}"), (200, said("yes"))]
    fake_teacher.reply = lambda number, body: answers[number - 1]
    waited: list[float] = []
    endpoint = Endpoint(url=fake_teacher.url, backoff_s=0.5)
    assert complete_chat(endpoint, {}, sleep=waited.append) == "yes"
    assert waited == [0.5, 1.0, 2.0, 4.0]


def test_an_error_whose_body_breaks_off_is_asked_again(fake_teacher: FakeTeacher):
    fake_teacher.headers = {"Transfer-Encoding": "chunked"}
    fake_teacher.reply = lambda number, body: (503, "20\r\nonly the begin")
    endpoint = Endpoint(url=fake_teacher.url, retries=1)
    with pytest.raises(EndpointError, match="failed 2 times, the last time with status 503"):
        complete_chat(endpoint, {}, sleep=lambda seconds: None)
    assert len(fake_teacher.requests) == 2


def test_an_endpoint_may_ask_for_patience(fake_teacher: FakeTeacher):
    fake_teacher.headers = {"Retry-After": "7"}
    fake_teacher.reply = lambda number, body: (503, "busy") if number == 1 else (200, said("yes"))
    waited: list[float] = []
    assert complete_chat(Endpoint(url=fake_teacher.url), {}, sleep=waited.append) == "yes"
    assert waited == [7.0]


def test_a_refusal_is_final(fake_teacher: FakeTeacher):
    fake_teacher.reply = lambda number, body: (401, "wrong key")
    with pytest.raises(EndpointError, match="rejected a request with status 401: wrong key") as e:
        complete_chat(Endpoint(url=fake_teacher.url, key="secret"), {})
    assert "secret" not in str(e.value)
    assert len(fake_teacher.requests) == 1


def test_nobody_there_fails_after_the_last_attempt():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    waited: list[float] = []
    endpoint = Endpoint(url=f"http://127.0.0.1:{port}/v1", retries=2)
    with pytest.raises(EndpointError, match="failed 3 times, the last time with URLError"):
        complete_chat(endpoint, {}, sleep=waited.append)
    assert len(waited) == 2


def test_silence_times_out():
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        with pytest.raises(EndpointError, match="(?i)time.?out|timed out"):
            complete_chat(Endpoint(url=url, timeout_s=0.05, retries=0), {})


@pytest.mark.parametrize("url", ["", "localhost:8000", "file:///etc/passwd", "ftp://host/v1"])
def test_what_is_no_address_is_refused(url: str):
    with pytest.raises(ConfigError, match="not the address of an endpoint"):
        Endpoint(url=url)


def test_numbers_out_of_range_are_refused():
    with pytest.raises(ConfigError, match="must not be negative"):
        Endpoint(url="http://host/v1", timeout_s=0.0)
