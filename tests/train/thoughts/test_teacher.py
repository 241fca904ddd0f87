from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.generate import FinishReason, Thought
from t1_jax.retrieval import Document
from t1_jax.train.data import TrainingRecord, TrainingSet
from t1_jax.train.thoughts import (
    AnswerFile,
    Endpoint,
    EndpointError,
    TeacherConfig,
    ask_teacher,
    think_locally,
)
from tests.train.thoughts.conftest import FakeTeacher, said

CONFIG = TeacherConfig(n=2, concurrency=2, document_characters=9)
DATA = TrainingSet(
    name="pets",
    records=tuple(
        TrainingRecord(
            query_id=f"q{i}", query=f"query {{documents}} {i}", positives={"cat": 2, "dog": 1}
        )
        for i in range(4)
    ),
    documents={
        "cat": Document(id="cat", title="Cat", text="It purrs loudly."),
        "dog": Document(id="dog", text="It barks."),
    },
)


def asked(teacher: FakeTeacher, path: Path, **changes: Any) -> dict[str, list[str]]:
    return ask_teacher(
        changes.pop("data", DATA),
        endpoint=Endpoint(url=teacher.url, retries=0),
        teacher="wise",
        instruction="Find the animal",
        config=replace(CONFIG, **changes),
        file=AnswerFile(path),
    )


@pytest.mark.enable_socket
def test_a_teacher_sees_what_answers_the_query(fake_teacher: FakeTeacher, tmp_path: Path):
    texts = asked(fake_teacher, tmp_path / "a.jsonl", temperature=0.3, max_tokens=77)
    assert {name: len(found) for name, found in texts.items()} == {f"q{i}": 2 for i in range(4)}
    first = min(fake_teacher.requests, key=lambda request: str(request["messages"]))
    assert (first["model"], first["temperature"], first["max_tokens"]) == ("wise", 0.3, 77)
    assert sorted(request["seed"] for request in fake_teacher.requests) == [0] * 4 + [1] * 4
    question = first["messages"][1]["content"]
    assert "Task: Find the animal" in question
    assert "query {documents} 0\n" in question  # braces of a query are left alone
    assert "Cat\nIt pu\n" in question
    assert question.index("Cat") < question.index("It barks.")
    blind = tmp_path / "b.jsonl"
    asked(fake_teacher, blind, see_documents=False)
    assert "purr" not in str(fake_teacher.requests[-1])


@pytest.mark.enable_socket
def test_an_endpoint_that_fails_half_way_loses_nothing(fake_teacher: FakeTeacher, tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    fake_teacher.reply = lambda n, body: (200, said(f"answer {n}")) if n <= 3 else (500, "down")
    with pytest.raises(
        EndpointError, match=r"500: down; 3 answers are stored in .*answers.jsonl\n"
    ):
        asked(fake_teacher, path)
    assert len(fake_teacher.requests) <= 3 + CONFIG.concurrency  # it did not go on and on
    kept = path.read_text()
    before = len(fake_teacher.requests)

    fake_teacher.reply = lambda n, body: (200, said(f"answer {n}"))
    texts = asked(fake_teacher, path)
    assert len(fake_teacher.requests) - before == 8 - 3
    assert path.read_text().startswith(kept)
    assert len({text for found in texts.values() for text in found}) == 8

    assert asked(fake_teacher, path) == texts
    assert len(fake_teacher.requests) == before + 5  # nothing was left to ask


@pytest.mark.enable_socket
@pytest.mark.parametrize("concurrency", [1, 2])
def test_a_question_that_is_refused_stops_no_other(
    fake_teacher: FakeTeacher, tmp_path: Path, concurrency: int
):
    path = tmp_path / "answers.jsonl"
    fake_teacher.reply = lambda n, body: (
        (400, "content filter") if n in (1, 4) else (200, said(f"answer {n}"))
    )
    found = asked(fake_teacher, path, concurrency=concurrency)
    assert sum(map(len, found.values())) == 6
    before = path.read_text()
    found = asked(fake_teacher, path, concurrency=concurrency)
    assert len(fake_teacher.requests) == 8 + 2  # what was refused is asked again
    assert sum(map(len, found.values())) == 8
    assert path.read_text().startswith(before)


@pytest.mark.enable_socket
@pytest.mark.parametrize("samples", [2, 8])
def test_a_query_that_is_always_refused_stops_no_other_call(
    fake_teacher: FakeTeacher, tmp_path: Path, samples: int
):
    """Not the first call, which begins with it, and not the next, which asks of it alone."""
    path = tmp_path / "answers.jsonl"
    fake_teacher.reply = lambda n, body: (
        (400, "content filter") if "} 0" in str(body["messages"]) else (200, said(f"answer {n}"))
    )
    first = asked(fake_teacher, path, n=samples)
    assert {name: len(found) for name, found in first.items()} == {
        "q0": 0, "q1": samples, "q2": samples, "q3": samples,
    }  # fmt: skip
    before = len(fake_teacher.requests)
    assert asked(fake_teacher, path, n=samples) == first
    assert len(fake_teacher.requests) == before + samples


@pytest.mark.enable_socket
def test_a_teacher_that_refuses_everything_is_an_error(fake_teacher: FakeTeacher, tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    asked(fake_teacher, path)
    before = path.read_text()
    fake_teacher.reply = lambda n, body: (400, "too long")
    with pytest.raises(EndpointError, match="400: too long; 8 answers are stored"):
        asked(fake_teacher, path, max_tokens=900)
    assert path.read_text() == before
    many = replace(
        DATA, records=tuple(replace(DATA.records[0], query_id=f"m{i}") for i in range(90))
    )
    with pytest.raises(EndpointError, match="400: too long"):
        asked(fake_teacher, path, data=many)
    assert len(fake_teacher.requests) < 8 + 8 + 20  # it did not try them all


@pytest.mark.enable_socket
def test_whatever_interrupts_what_is_under_way_is_kept(fake_teacher: FakeTeacher, tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    told: list[int] = []

    def interrupt(answers: int) -> None:
        told.append(answers)
        if len(told) == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_teacher(
            DATA,
            endpoint=Endpoint(url=fake_teacher.url, retries=0),
            teacher="wise",
            instruction="Find the animal",
            config=replace(CONFIG, concurrency=3),
            file=AnswerFile(path),
            advance=interrupt,
        )
    assert len(path.read_text().splitlines()) == len(fake_teacher.requests) == 3


@pytest.mark.enable_socket
def test_another_question_is_another_answer(fake_teacher: FakeTeacher, tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    asked(fake_teacher, path)
    asked(fake_teacher, path, n=3)  # one more each
    assert len(fake_teacher.requests) == 12
    asked(fake_teacher, path, temperature=0.1)
    assert len(fake_teacher.requests) == 20


class FakeModel:
    """Thinks as `T1.encode_query` does, and fails when told to."""

    fingerprint = "f"

    class preset:  # noqa: N801
        hash = "p"

    def __init__(self, fail_at: int = 99) -> None:
        self.calls: list[dict[str, Any]] = []
        self.fail_at = fail_at

    def known_task(self, task: str | None) -> str | None:
        return task

    def encode_query(self, texts: list[str], **how: Any) -> tuple[None, list[list[Thought]]]:
        self.calls.append({"texts": texts, **how})
        if len(self.calls) == self.fail_at:
            raise KeyboardInterrupt
        one = np.zeros(1, np.float32)
        return None, [
            [
                Thought(
                    token_ids=np.zeros(1, np.int32), log_probs=one, log_probs_at_1=one,
                    embedding=one, finish_reason=FinishReason.EMB_TOKEN, sample=k,
                    text=f"{text} thought {k}",
                )
                for k in range(how["n"])
            ]
            for text in texts
        ]  # fmt: skip


def locally(model: FakeModel, path: Path, data: TrainingSet = DATA) -> dict[str, list[str]]:
    return think_locally(data, model, task="pets", config=CONFIG, file=AnswerFile(path))  # pyright: ignore[reportArgumentType]


def test_our_own_model_thinks_and_goes_on_where_it_stopped(tmp_path: Path):
    path = tmp_path / "thoughts.jsonl"
    odd = replace(DATA.records[1], instruction="Find the other animal")
    data = replace(DATA, records=(DATA.records[0], odd, *DATA.records[2:]))
    broken = FakeModel(fail_at=2)
    with pytest.raises(KeyboardInterrupt):
        locally(broken, path, data)
    whole = FakeModel()
    texts = locally(whole, path, data)
    assert [call["query_ids"] for call in broken.calls] == [["q0", "q2", "q3"], ["q1"]]
    assert [call["query_ids"] for call in whole.calls] == [["q1"]]
    assert (whole.calls[0]["task"], whole.calls[0]["instruction"]) == (None, odd.instruction)
    assert (broken.calls[0]["task"], broken.calls[0]["instruction"]) == ("pets", None)
    assert texts["q3"] == [f"{DATA.records[3].query} thought {k}" for k in range(2)]


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"n": 0}, "n must be at least 1"),
        ({"temperature": float("nan")}, "temperature must lie"),
        ({"temperature": -0.1}, "temperature must lie"),
        ({"question": "{documents}"}, "must have {query} exactly once"),
        (
            {"question": "{query}"},
            "see_documents=true needs {documents} in the teacher's question\n  hint: add",
        ),
    ],
)
def test_bad_settings_are_refused(change: dict[str, Any], fault: str):
    with pytest.raises(ConfigError, match=fault):
        TeacherConfig(**change)
