from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import Document, build_index
from t1_jax.train.data import TrainingRecord
from t1_jax.train.mining import (
    MiningConfig,
    Ranking,
    mine_negatives,
    rank_bm25,
    rank_dense,
)

TEXTS = {
    "cat": "A cat purrs and hunts mice at night.",
    "tom": "a cat purrs and hunts  mice at NIGHT.",
    "owl": "An owl hunts mice at night.",
    "dog": "A dog barks at night.",
    "bee": "A bee makes honey.",
    "fox": "A fox hunts hens.",
}
DOCUMENTS = {name: Document(id=name, text=text) for name, text in TEXTS.items()}
RECORD = TrainingRecord(query_id="q", query="what hunts mice at night", positives={"cat": 1})
ALL = MiningConfig(max_ratio=None)


def ranking(name: str, scores: dict[str, float], positive: float | None = None) -> Ranking:
    return Ranking(
        name=name,
        run={"q": scores},
        positive_scores={} if positive is None else {"q": positive},
    )


def mined(record: TrainingRecord, config: MiningConfig, *rankings: Ranking) -> tuple[str, ...]:
    (found,), _ = mine_negatives([record], DOCUMENTS, rankings, config)
    return found.negatives


def test_words_find_what_shares_them():
    found = rank_bm25([RECORD], DOCUMENTS, 100)
    (record,), report = mine_negatives([RECORD], DOCUMENTS, [found])
    assert record.negatives[0] == "owl"
    assert set(record.negatives) == {"owl", "dog", "fox"}
    assert replace(record, negatives=()) == RECORD
    assert report.dropped == {"positive": 1, "same text": 1}
    assert (report.records, report.mined, report.short) == (1, 3, 1)
    assert report.taken == {"bm25": 3}
    assert report.unanswered == {}
    strange = replace(RECORD, query_id="s", query="xylophone")
    _, report = mine_negatives(
        [RECORD, strange], DOCUMENTS, [rank_bm25([RECORD, strange], DOCUMENTS, 100)]
    )
    assert report.unanswered == {"bm25": 1}


def test_what_is_known_is_no_candidate():
    record = replace(RECORD, excluded=frozenset({"dog"}), negatives=("fox",))
    scores = {"dog": 4.0, "fox": 3.0, "bee": 2.0, "cat": 1.0}
    (found,), report = mine_negatives([record], DOCUMENTS, [ranking("a", scores)], ALL)
    assert found.negatives == ("fox", "bee")
    assert report.dropped == {"excluded": 1, "known": 1, "positive": 1}
    assert report.mined == 1


def test_words_do_not_bring_back_what_vectors_drop():
    words = ranking("bm25", {"owl": 9.0, "dog": 5.0, "bee": 1.0})
    vectors = ranking("dense", {"owl": 0.9, "cat": 0.8, "dog": 0.7}, positive=0.8)
    config = MiningConfig(max_ratio=0.95)
    for rankings in ((words, vectors), (vectors, words)):
        (found,), report = mine_negatives([RECORD], DOCUMENTS, rankings, config)
        assert set(found.negatives) == {"dog", "bee"}
        assert report.dropped == {"positive": 1, "too close": 2}


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (ALL, ("owl", "dog", "bee")),
        (MiningConfig(max_ratio=0.95), ("dog", "bee")),  # 0.95 · 0.8 = 0.76
        (MiningConfig(max_ratio=0.5), ("bee",)),
        (MiningConfig(max_ratio=None, margin=0.05), ("dog", "bee")),
        (MiningConfig(max_ratio=None, margin=0.11), ("owl", "dog", "bee")),
        (MiningConfig(max_ratio=None, skip=1), ("dog", "bee")),
        (MiningConfig(max_ratio=None, negatives=1), ("owl",)),
        (MiningConfig(max_ratio=None, depth=2), ("owl",)),
    ],
)
def test_likely_false_negatives_are_dropped(config: MiningConfig, expected: tuple[str, ...]):
    scores = {"owl": 0.9, "cat": 0.8, "dog": 0.7, "bee": 0.3}
    assert mined(RECORD, config, ranking("a", scores, positive=0.8)) == expected


def test_near_copies_of_a_positive_are_dropped_from_every_ranking():
    texts = TEXTS | {"ed2": "A cat purrs and hunts the mice at night.", "not": "A cat sleeps."}
    documents = {name: Document(id=name, text=text) for name, text in texts.items()}
    scores = {"ed2": 5.0, "owl": 3.0, "not": 2.0}

    def found(near_duplicate_threshold: float | None) -> tuple[tuple[str, ...], dict[str, int]]:
        config = replace(ALL, near_duplicate_threshold=near_duplicate_threshold)
        (record,), report = mine_negatives([RECORD], documents, [ranking("a", scores)], config)
        return record.negatives, dict(report.dropped)

    # 29 of 39 runs of five characters are common.
    assert found(0.6) == (("owl", "not"), {"near duplicate": 1})
    assert found(0.9) == (("ed2", "owl", "not"), {})
    assert found(None) == found(0.9)


def test_a_negative_cosine_is_no_reason_to_keep_what_is_closer():
    scores = {"owl": -0.2, "dog": -0.5}
    found = mined(RECORD, MiningConfig(max_ratio=0.9), ranking("a", scores, positive=-0.4))
    assert found == ("dog",)  # the limit is -0.44


def test_two_rankings_become_one():
    a = ranking("a", {"owl": 3.0, "dog": 2.0, "bee": 1.0})
    b = ranking("b", {"fox": 9.0, "bee": 8.0, "owl": 7.0})
    assert mined(RECORD, ALL, a, b) == ("owl", "fox", "dog", "bee")
    fused = replace(ALL, union="rrf", rrf_k=1.0)
    # owl 1/2 + 1/4, bee 1/4 + 1/3, fox 1/2, dog 1/3
    assert mined(RECORD, fused, a, b) == ("owl", "bee", "fox", "dog")


def test_vectors_rank_and_judge_by_cosine():
    index = build_index("numpy", list(TEXTS), np.eye(6, 4) + 0.5)
    query = np.array([[2.0, 1.0, 0.0, 0.0]])
    found = rank_dense([RECORD], index, query, 6, name="t1")
    unit = index.vectors @ (query[0] / np.linalg.norm(query))
    assert found.positive_scores["q"] == pytest.approx(float(unit[0]))
    assert list(found.run["q"].values()) == pytest.approx(sorted(unit.tolist(), reverse=True))
    with pytest.raises(DataError, match="the positive 'cat', which the index lacks"):
        rank_dense([RECORD], build_index("numpy", ["x"], np.ones((1, 4))), query, 6)


@given(
    st.dictionaries(st.sampled_from(sorted(TEXTS)), st.floats(-1, 1), max_size=6),
    st.integers(1, 4),
    st.sampled_from(["interleave", "rrf"]),
)
def test_negatives_are_never_right_nor_twice(scores: dict[str, float], n: int, union: str):
    ordered = dict(sorted(scores.items(), key=lambda item: -item[1]))
    config = MiningConfig(negatives=n, max_ratio=None, union=union)  # pyright: ignore
    both = (ranking("a", ordered), ranking("b", dict(reversed(ordered.items()))))
    found = mined(RECORD, config, *both)
    assert len(found) == len(set(found)) <= n
    assert not {"cat", "tom"} & set(found)
    assert found == mined(RECORD, config, *both)


def test_bad_input_is_refused():
    with pytest.raises(ConfigError, match="negatives must be at least 1"):
        MiningConfig(negatives=0)
    with pytest.raises(
        ConfigError, match="near_duplicate_threshold must be above 0 and at most 1, got 0.0"
    ):
        MiningConfig(near_duplicate_threshold=0.0)
    with pytest.raises(ConfigError, match="different names, got \\['a', 'a'\\]"):
        mine_negatives([RECORD], DOCUMENTS, [ranking("a", {}), ranking("a", {})])
    with pytest.raises(ConfigError, match="rankings of different names"):
        mine_negatives([RECORD], DOCUMENTS, [])
    with pytest.raises(DataError, match="names 'gone', which the corpus lacks"):
        mine_negatives([RECORD], DOCUMENTS, [ranking("a", {"gone": 1.0})])
