"""Test texts in training data: exact, near duplicates, shared 13-grams."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.evaluate import TrainingText, find_contamination
from t1_jax.evaluate.contamination import N
from t1_jax.retrieval import Collection, Document, Query

WORDS = [f"w{number}" for number in range(40)]


def texts(*given: str) -> list[TrainingText]:
    return [
        TrainingText(record=f"r{number}", part="query", text=text)
        for number, text in enumerate(given)
    ]


def collection(queries: dict[str, str], documents: dict[str, str]) -> Collection:
    return Collection(
        name="test",
        documents=tuple(Document(id=name, text=text) for name, text in documents.items()),
        queries=tuple(Query(id=name, text=text) for name, text in queries.items()),
        qrels={name: {next(iter(documents)): 1} for name in queries},
    )


def test_every_kind_of_match_is_found_and_the_closest_kept():
    quoted = " ".join(WORDS[:20])
    test = collection(
        {
            "exact": "Who PURRS?",
            "near": "why does the lock of the handshake fail twice after a restart",
            "quoted": "I read: " + quoted,
            "clean": "what is the capital of France, and who built its tower?",
        },
        {"gold": quoted + " and so on", "other": " ".join(WORDS[20:])},
    )
    found = find_contamination(
        texts(
            "who  purrs?",
            "why does the lock of the handshake fail twice after the restart",
            "before " + " ".join(WORDS[2:18]) + " after",
            " ".join(WORDS[3:17]),
            " ".join(WORDS[20:]).upper() + ".",
        ),
        test,
    )
    described = {m.text_id: (m.kind, m.record) for m in found.matches}
    assert described == {
        "exact": ("exact", "r0"),
        "near": ("near duplicate", "r1"),
        "quoted": ("n-gram", "r2"),
        "gold": ("n-gram", "r2"),
        "other": ("near duplicate", "r4"),
    }
    by_id = {match.text_id: match for match in found.matches}
    assert by_id["quoted"].shared == " ".join(WORDS[2:18])
    assert by_id["quoted"].overlap == pytest.approx(4 / (22 - N + 1))
    assert by_id["near"].overlap > 0.8
    assert by_id["other"].overlap == 1
    assert found.totals == {"query": 4, "relevant document": 1, "other document": 1}
    assert (found.count("query", "n-gram"), found.training_texts) == (1, 5)
    assert found.contaminated_queries == ("exact", "near", "quoted")


def test_equal_documents_all_match():
    test = collection({"q": "a question"}, {"a": "same words", "b": "Same  words"})
    found = find_contamination(texts("SAME WORDS"), test)
    assert [(m.text_id, m.text_kind) for m in found.matches] == [
        ("a", "relevant document"),
        ("b", "other document"),
    ]


def test_nothing_is_found_in_other_texts():
    test = collection({"q": " ".join(WORDS[:12])}, {"d": " ".join(WORDS)})
    found = find_contamination(texts("short", " ".join(reversed(WORDS)), "?"), test)
    assert found.matches == ()


small = st.lists(st.sampled_from(["a", "b", "c", "unknown"]), max_size=30).map(" ".join)


@given(
    st.lists(small, min_size=1, max_size=4), st.lists(small.filter(bool), min_size=1, max_size=3)
)
def test_shared_ngrams_are_those_of_a_plain_search(training: list[str], documents: list[str]):
    def ngrams(text: str) -> set[tuple[str, ...]]:
        words = re.findall(r"\w+", text)
        return {tuple(words[i : i + N]) for i in range(len(words) - N + 1)}

    named = {f"d{number}": text for number, text in enumerate(documents)}
    test = collection({"q": "unrelated question"}, named)
    found = {m.text_id: m for m in find_contamination(texts(*training), test).matches}
    for name, text in named.items():
        shares = [
            len(ngrams(text) & ngrams(other)) / len(ngrams(text))
            for other in training
            if ngrams(text)
        ]
        if text in training:
            assert found[name].kind == "exact"
        elif max(shares, default=0) > 0:
            assert found[name].overlap == pytest.approx(max(shares))
            assert found[name].shared in " ".join(text.split())
            assert found[name].kind == ("near duplicate" if max(shares) >= 0.8 else "n-gram")
        else:
            assert name not in found
