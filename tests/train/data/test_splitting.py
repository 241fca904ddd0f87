from dataclasses import replace
from typing import Any

import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Collection, Document, Query
from t1_jax.train.data import LeakConfig, SplitConfig, overlap, split_queries

TOPICS = ("apples", "rivers", "engines", "violins", "glaciers", "bridges", "turtles", "candles",
          "mirrors", "deserts")  # fmt: skip


@pytest.fixture
def asked() -> Collection:
    """Thirty queries: ten topics, each asked plainly, in capitals, and with one letter more."""
    texts = {
        f"{topic}-{kind}": wording
        for topic in TOPICS
        for kind, wording in (
            ("plain", f"how were {topic} used by people of the middle ages?"),
            ("capitals", f"HOW WERE {topic.upper()}  USED BY PEOPLE OF THE MIDDLE AGES?"),
            ("near", f"how were {topic} used by people of the middle ages??"),
        )
    }
    return Collection(
        name="history",
        documents=(Document(id="d", text="text"),),
        queries=tuple(Query(id=name, text=text) for name, text in texts.items()),
        qrels={name: {"d": 1} for name in texts},
        excluded={"apples-plain": frozenset()},
    )


def test_equal_and_nearly_equal_queries_stay_together(asked: Collection):
    # the topics differ in too few characters for the default of 0.8
    splits = split_queries(asked, SplitConfig(near_duplicates=0.95))
    assert {name: len(part.queries) for name, part in splits.items()} == {
        "train": 21, "validation": 3, "test": 6
    }  # fmt: skip
    for name, part in splits.items():
        assert all(len([q for q in part.queries if q.id.startswith(t)]) in (0, 3) for t in TOPICS)
        for other, queries in splits.items():
            if other != name:
                assert not overlap(part, queries, LeakConfig(near=0.95))
    assert split_queries(asked, SplitConfig(near_duplicates=0.95)) == splits
    assert split_queries(asked, SplitConfig(near_duplicates=0.95, seed=1)) != splits


def test_a_split_that_would_be_empty_is_refused(asked: Collection):
    few = asked.with_queries([f"apples-{kind}" for kind in ("plain", "capitals", "near")])
    with pytest.raises(DataError, match="too few groups of different texts leave none for"):
        split_queries(few)
    one = asked.with_queries(["apples-plain", "rivers-plain"])
    only = split_queries(one, SplitConfig(validation=0.0, test=0.5, near_duplicates=1.0))
    assert {name: len(part.queries) for name, part in only.items()} == {"train": 1, "test": 1}


def test_queries_without_a_relevant_document_are_split_too(asked: Collection):
    unjudged = replace(asked, qrels={key: {"d": 0} for key in asked.qrels})
    splits = split_queries(unjudged, SplitConfig(near_duplicates=0.95))
    assert sum(len(part.queries) for part in splits.values()) == 30


@pytest.mark.parametrize("shares", [{"test": -0.1}, {"validation": 0.5, "test": 0.5}])
def test_shares_that_leave_nothing_are_refused(shares: dict[str, Any]):
    with pytest.raises(ConfigError, match="must leave queries to train on"):
        SplitConfig(**shares)
