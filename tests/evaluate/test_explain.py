"""Explanations of a toy world, where every rank can be worked out by hand."""

import dataclasses
import re

import numpy as np
import pytest
from rich.console import Console

from t1_jax.evaluate import Explanation, ExplanationView, explain_query, render_explanation
from t1_jax.evaluate.explanation_page import moves_text, spread_text
from t1_jax.evaluate.sentences import split_sentences
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import Document, build_index
from tests.evaluate.toys import LetterModel, letters

DOCUMENTS = {
    name: Document(id=name, title=title, text=text)
    for name, title, text in (
        ("apple", "Apple <b>", "aaaa"), ("ball", "", "bbbb\nthe second line"),
        ("car", "Car", "cccc"), ("doll", "Doll", "dddd"),
    )
}  # fmt: skip
THOUGHT = "bbbbbbbb. cc! <script>"


@pytest.fixture
def explanation() -> Explanation:
    texts = {"apple": "aaaa", "ball": "bbbb", "car": "cccc", "doll": "dddd"}
    index = build_index("numpy", list(texts), np.stack([letters(t) for t in texts.values()]))
    return explain_query(
        LetterModel(thoughts={"aaaa": THOUGHT}),
        index,
        "aaaa",
        documents=DOCUMENTS,
        k=2,
        n=3,
        sampling=SamplingParams(temperature=1.0),
    )


def test_the_rankings_side_by_side(explanation: Explanation):
    assert [hit.document_id for hit in explanation.hits] == ["ball", "apple"]
    assert explanation.hits_without[0].document_id == "apple"
    ball = explanation.documents[0]
    assert (ball.hit.document_id, ball.hit.rank, ball.gain > 0) == ("ball", 1, True)
    assert (ball.hit.title, ball.hit.snippet) == ("bbbb", "the second line")
    assert explanation.documents[1].rank_without == 1
    vector = letters("aaaa " + THOUGHT)
    assert ball.hit.score == pytest.approx(float(vector @ letters("bbbb")), abs=1e-6)
    assert len(explanation.thoughts) == 3
    assert [thought.sample for thought in explanation.thoughts] == [0, 1, 2]
    assert explanation.similarities == pytest.approx((1, 1, 1), abs=1e-6)
    assert ball.ranks == (1, 1, 1)


def test_the_sentence_that_carries_the_ranking_moves_it(explanation: Explanation):
    carries, other, last = explanation.sentences
    assert (carries.text, other.text, last.text) == ("bbbbbbbb.", "cc!", "<script>")
    moved = {move.document_id: (move.before, move.after) for move in carries.moves}
    assert moved["apple"] == (2, 1)
    assert moved["ball"][0] == 1
    assert moved["ball"][1] > 1
    assert other.moves == ()
    whole = letters("aaaa " + THOUGHT)
    without = letters("aaaa cc! <script>")
    assert carries.similarity == pytest.approx(float(whole @ without), abs=1e-6)
    assert carries.similarity < other.similarity < 1
    assert moves_text(other, explanation) == "no rank changes"
    assert "Apple <b> 2 → 1" in moves_text(carries, explanation)


def test_a_greedy_thought_is_followed_by_sampled_ones():
    model = LetterModel(thoughts={"a": "b"})
    index = build_index("numpy", ["x", "y"], np.stack([letters("a"), letters("b")]))
    explanation = explain_query(
        model, index, "a", documents={}, n=4, sampling=SamplingParams(temperature=0.0)
    )
    assert [call["n"] for call in model.calls if call["think"] and not call["thoughts"]] == [1, 3]
    assert [thought.sample for thought in explanation.thoughts] == [0, 1, 2, 3]
    assert explanation.documents[0].hit.title in ("x", "y")  # no texts: titles are ids


def test_an_empty_thought_has_no_sentences():
    index = build_index("numpy", ["x"], letters("a")[None])
    explanation = explain_query(
        LetterModel(), index, "a", documents={}, n=1, sampling=SamplingParams()
    )
    assert explanation.sentences == ()
    assert "The thought is empty" in printed(explanation)
    assert "The thought is empty" in render_explanation(explanation, model="m", index="i")


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("One. Two! Three", ["One. ", "Two! ", "Three"]),
        ("a b\nc\n\nd", ["a b\n", "c\n\n", "d"]),
        ("1.5 is a number; yes.", ["1.5 is a number; ", "yes."]),
        ("  ", []),
    ],
)
def test_sentences_are_the_text_in_parts(text: str, sentences: list[str]):
    assert split_sentences(text) == sentences
    assert "".join(sentences) == text.strip(" ")


def printed(explanation: Explanation) -> str:
    console = Console(width=120, color_system=None)
    with console.capture() as capture:
        console.print(ExplanationView(explanation))
    return capture.get()


def test_the_terminal_and_the_page_say_the_same(explanation: Explanation):
    text = printed(explanation)
    assert "With and without the thought, 1 of 2 documents in both" in text
    assert re.search(r"ball\s+bbbb\s+1\s+\d\s+▲ \d", text)
    assert "Ranks over 3 thoughts" in text
    page = render_explanation(explanation, model="letters", index="toys")
    assert "Apple &lt;b&gt;" in page
    assert "<script" not in page
    assert "&lt;script&gt;" in page
    for part in ("Retrieved with the thought", "Each sentence left out", "Further thoughts"):
        assert part in page
    assert not re.search(r'(src|href)="(?!#)', page)
    spread = dataclasses.replace(explanation.documents[0], ranks=(1, 4, 2))
    assert spread_text(spread.ranks) == "1 to 4, median 2"
