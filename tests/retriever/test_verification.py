"""Verified rankings: the nearest documents reordered by the likelihood of their titles."""

from collections.abc import Sequence

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.retrieval import Document, Query
from t1_jax.retriever import T1, Verification, verify_run
from t1_jax.retriever.verification import thought_about

DOCUMENTS = {
    "a": Document(id="a", title="Apple", text="Red. Round."),
    "b": Document(id="b", title="", text="A banana is\nyellow. It is bent."),
    "c": Document(id="c", title="Cherry", text="Small."),
    "d": Document(id="d", title="Date", text="Sweet."),
}
QUERIES = (Query(id="q", text="what is yellow"), Query(id="r", text="what is red"))
RUN = {"q": {"a": 0.9, "b": 0.8, "c": 0.7, "d": 0.6}, "r": {"d": 0.5, "a": 0.4}}


class Scorer:
    """Log-probabilities by title."""

    def __init__(self, **log_probs: float) -> None:
        self.log_probs = log_probs
        self.asked: list[tuple[list[str], list[list[str]], dict[str, object]]] = []

    def score_thoughts(
        self, texts: Sequence[str], thoughts: Sequence[Sequence[str]], **options: object
    ) -> list[np.ndarray]:
        self.asked.append((list(texts), [list(group) for group in thoughts], options))
        return [
            np.array(
                [-1.0 if query == "?" else self.log_probs[text.split()[0]] - 1 for text in group],
                np.float32,
            )
            for query, group in zip(texts, thoughts, strict=True)
        ]


def verified(scorer: Scorer, k: int, weight: float, **options) -> dict[str, dict[str, float]]:
    return verify_run(scorer, RUN, QUERIES, DOCUMENTS, Verification(k=k, weight=weight), **options)


def test_the_sum_of_cosine_and_weighted_information_orders_the_first_documents() -> None:
    scorer = Scorer(Apple=-4.0, A=-1.0, Cherry=-1.5, Date=-3.0)
    run = verified(scorer, 3, 0.1, task="fruit")
    assert list(run["q"]) == ["b", "c", "a", "d"]  # 0.7, 0.55, 0.5 and all above d
    assert list(run["r"]) == ["d", "a"]  # 0.2 and 0.0
    first, second, third, last = run["q"].values()
    assert (first - second, second - third) == pytest.approx((0.15, 0.05), abs=1e-6)
    assert last == 0.6
    assert third > last
    assert run["r"] == pytest.approx({"d": 0.2, "a": 0.0}, abs=1e-6)
    without, (texts, thoughts, options) = scorer.asked
    assert without == (
        ["?"],
        [["Apple", "A banana is yellow.", "Cherry", "Date"]],
        {"task": "fruit", "instruction": None},
    )
    assert texts == ["what is yellow", "what is red"]
    assert thoughts == [["Apple", "A banana is yellow.", "Cherry"], ["Date", "Apple"]]
    assert options["task"] == "fruit"
    assert options["query_ids"] == ["q", "r"]


def test_a_likely_last_title_cannot_lift_a_document_that_is_not_verified() -> None:
    run = verified(Scorer(Apple=-50.0, A=-60.0, Cherry=0.0, Date=0.0), 2, 0.1)
    assert list(run["q"]) == ["a", "b", "c", "d"]
    assert [run["q"][name] for name in "cd"] == [0.7, 0.6]


@pytest.mark.parametrize("fields", [{"k": 1}, {"k": -1}, {"weight": 0.0}, {"weight": float("nan")}])
def test_values_without_sense_are_errors(fields) -> None:
    with pytest.raises(ConfigError, match=r"at least 2|must be positive"):
        Verification(**fields)


def test_documents_without_text_are_named() -> None:
    with pytest.raises(ConfigError, match="document 'a' has no text here"):
        verify_run(Scorer(), RUN, QUERIES, {}, Verification())


@pytest.mark.parametrize(
    ("document", "thought"),
    [
        (Document(id="x", title=" Title ", text="Text."), "Title"),
        (Document(id="x", title="", text="\n First one? Second."), "First one?"),
        (Document(id="x", title="", text="no end\n\nnext"), "no end"),
    ],
)
def test_the_thought_about_a_document_is_its_title_or_first_sentence(document, thought) -> None:
    assert thought_about(document) == thought


def test_a_model_verifies_by_the_mutual_information_of_query_and_title(tiny_t1: T1) -> None:
    run = verify_run(tiny_t1, RUN, QUERIES, DOCUMENTS, Verification(k=4, weight=0.1))
    titles = ["Apple", "A banana is yellow.", "Cherry", "Date"]
    (scores,) = tiny_t1.score_thoughts(["what is yellow"], [titles])
    (prior,) = tiny_t1.score_thoughts(["?"], [titles])
    information = (scores - prior).tolist()
    for name, cosine, gained in zip("abcd", RUN["q"].values(), information, strict=True):
        assert run["q"][name] == pytest.approx(cosine + 0.1 * gained, abs=1e-5)
