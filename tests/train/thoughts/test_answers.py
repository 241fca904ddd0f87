from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.train.data import TrainingRecord
from t1_jax.train.thoughts import AnswerFile, with_thoughts
from t1_jax.train.thoughts.answers import Answer, clean_thought


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize(
    ("text", "thought"),
    [
        ("  A cat\npurrs. ", "A cat purrs."),
        ("<think>let me see\n</think>\nIt is a cat.", "It is a cat."),
        ("<think>never closed", ""),
        ("opened by the template\n</think>\n\nThe flaw", "The flaw"),
        ("<think>a</think>Yes.<think>b</think>It is. <think>no", "It is."),
        ("Thought: it is a cat", "it is a cat"),
        ("**Reasoning:** it is a cat", "it is a cat"),
        ('"It is a cat."', "It is a cat."),
        ("# Cats\n- one\n- two\n3. three", "Cats one two three"),
        ("One two. Three four. Five six seven.", "One two. Three four."),
        ("one two three four five six seven", "one two three four five."),
        ("", ""),
    ],
)
def test_an_answer_becomes_one_short_paragraph(text: str, thought: str):
    assert clean_thought(text, 5, words) == thought


@given(st.text(max_size=200), st.integers(1, 20))
def test_a_thought_keeps_to_its_length(text: str, most: int):
    thought = clean_thought(text, most, words)
    assert words(thought) <= most
    assert "\n" not in thought


def test_what_teachers_say_becomes_thoughts_once():
    records = (
        TrainingRecord(query_id="a", query="x", positives={"d": 1}, thoughts=("old",)),
        TrainingRecord(query_id="b", query="y", positives={"d": 1}),
    )
    texts = {"a": ["new", "old", " new ", "an <emb_token>", "<think>x"], "b": []}
    (a, b), report = with_thoughts(records, texts, max_tokens=9, count_tokens=words)
    assert a.thoughts == ("old", "new")
    assert b == records[1]
    assert (report.answers, report.thoughts, report.repeated) == (5, 1, 2)
    assert (report.empty, report.with_emb_token) == (1, 1)


def answer(sample: int, text: str = "so") -> Answer:
    return Answer(query_id="q", sample=sample, asked="h", text=text)


def test_answers_are_there_again(tmp_path: Path):
    path = tmp_path / "deep" / "answers.jsonl"
    file = AnswerFile(path)
    file.add(answer(0, "zwei\nZeilen\u2028ä"))
    file.add(answer(1))
    again = AnswerFile(path)
    assert again.answers == file.answers
    assert again.has("q", 1, "h")
    assert not again.has("q", 1, "another question")


def test_a_torn_end_costs_one_answer(tmp_path: Path):
    path = tmp_path / "answers.jsonl"
    file = AnswerFile(path)
    file.add(answer(0))
    file.add(answer(1))
    whole = path.read_bytes()
    path.write_bytes(whole[:-4])
    torn = AnswerFile(path)
    assert [key[1] for key in torn.answers] == [0]
    torn.add(answer(1))
    assert path.read_bytes() == whole
    path.write_bytes(b'{"query_')
    assert AnswerFile(path).answers == {}


@pytest.mark.parametrize("line", ["no json", '{"query_id": "q"}', '{"query_id":"q","asked":"h","sample":"1","text":"x"}'])  # fmt: skip  # noqa: E501
def test_a_foreign_line_is_named(tmp_path: Path, line: str):
    path = tmp_path / "answers.jsonl"
    AnswerFile(path).add(answer(0))
    path.write_text(path.read_text() + line + "\n")
    with pytest.raises(DataError, match="answers.jsonl:2: "):
        AnswerFile(path)
