"""A small collection with qrels for the tests of this package."""

import pytest

from t1_jax.retrieval import Collection, Document, Query


@pytest.fixture
def collection() -> Collection:
    return Collection(
        name="pets",
        documents=(
            Document(id="cat", text="A cat purrs and hunts mice.", title="Cats"),
            Document(id="dog", text="A dog barks and guards the house."),
            Document(id="a fish", text="Fishes swim, «silently».\nThey need water.", title="Fish"),
            Document(id="mouse", text="A mouse fears cats."),
        ),
        queries=(
            Query(id="q1", text="who purrs?"),
            Query(id="q2", text="who barks at the house"),
            Query(id="q3", text="what lives in water"),
        ),
        qrels={"q1": {"cat": 2, "mouse": 1}, "q2": {"dog": 1, "cat": 0}, "q3": {"a fish": 1}},
        excluded={"q1": frozenset({"mouse"})},
        metadata={"license": "CC0", "source": "made up"},
    )
