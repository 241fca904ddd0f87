"""Where positives stand among the documents of a step, of pools, and of corpora that age."""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
import pytest

from t1_jax.errors import DataError
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retrieval import Document
from t1_jax.train.candidates import CandidateDocuments
from t1_jax.train.data import Example, TrainingRecord, TrainingSet
from t1_jax.train.rewards import PoolConfig, joined_outcome, outcome_from_scores


class Encoder:
    """Stands for the model: a document's vector is written in its text, in units of `turn`."""

    def __init__(self, turn: float = 0.0) -> None:
        self.turn = turn
        self.encoded: list[str] = []

    def __call__(
        self, texts: Sequence[str], document_ids: Sequence[str] | None = None
    ) -> np.ndarray:
        self.encoded += texts
        angles = np.array([float(text) for text in texts]) + self.turn
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)


def angles(*values: float) -> np.ndarray:
    """[P, 1, 2]: one thought a query, at this angle."""
    found = np.array(values)
    return np.stack([np.cos(found), np.sin(found)], axis=1).astype(np.float32)[:, None]


def circle(name: str, documents: dict[str, float], records: Sequence[TrainingRecord]) -> Any:
    return TrainingSet(
        name=name,
        records=tuple(records),
        documents={key: Document(id=key, text=str(angle)) for key, angle in documents.items()},
    )


def asked(name: str, *positives: str, **fields: Any) -> TrainingRecord:
    return TrainingRecord(
        query_id=name, query=f"query {name}", positives=dict.fromkeys(positives, 1), **fields
    )


NEAR = circle(
    "near",
    {"a": 0.0, "b": 0.1, "c": 0.2, "d": 3.0},
    [asked("q0", "a"), asked("q1", "c", "d", excluded=frozenset({"b"}))],
)
FAR = circle("far", {"x": 1.0, "y": 2.0}, [asked("q2", "y")])
SETS = (NEAR, FAR)


def example(of: TrainingSet, number: int, negatives: tuple[str, ...] = ()) -> Example:
    record = of.records[number]
    first = next(iter(record.positives))
    return Example(
        set_name=of.name, record=record, positive=first, negatives=negatives, thought=None
    )


def candidates(**config: Any) -> CandidateDocuments:
    mesh = single_device_mesh_context().mesh
    return CandidateDocuments(PoolConfig(index="numpy", **config), SETS, mesh, seed=0)


DRAWS = [example(NEAR, 1), example(FAR, 0), example(NEAR, 0)]
THOUGHTS = angles(0.16, 1.2, 0.12)


def test_a_corpus_ranks_each_query_in_its_own_set_in_the_order_drawn():
    documents, model = candidates(kind="corpus"), Encoder()
    documents.refresh(model, 0)
    found = documents.outcome(model, DRAWS, THOUGHTS)
    # q1: c first, d last of a, c, d (b is excluded); q2: y behind x; q0: a behind b and c.
    np.testing.assert_array_equal(found.positive_ranks[:, 0], [[1, 3], [2, -1], [3, -1]])
    np.testing.assert_array_equal(found.positive_grades, [[1, 1], [1, 0], [1, 0]])
    np.testing.assert_array_equal(found.candidates, [3, 2, 4])
    np.testing.assert_allclose(
        found.positive_scores[:, 0],
        [[np.cos(0.04), np.cos(2.84)], [np.cos(0.8), 0], [np.cos(0.12), 0]],
        atol=1e-6,
    )


def test_documents_of_the_step_are_those_of_all_its_queries():
    documents, model = candidates(kind="batch"), Encoder()
    documents.refresh(model, 0)
    assert model.encoded == []
    found = documents.outcome(
        model,
        [example(NEAR, 0, negatives=("b",)), example(FAR, 0), example(NEAR, 1)],
        THOUGHTS[[2, 1, 0]],
    )
    assert model.encoded == ["0.0", "0.1", "2.0", "0.2", "3.0"]
    # q0 among a, b, y, c, d: b and c are nearer than a. q1: b is excluded.
    np.testing.assert_array_equal(found.positive_ranks[:, 0], [[3, -1], [1, -1], [1, 4]])
    np.testing.assert_array_equal(found.candidates, [5, 5, 4])
    assert documents.metrics(7) == {"index/age": 0.0}
    assert documents.state_dict() == {}


def test_a_pool_holds_the_positives_and_as_many_others_as_asked():
    documents, model = candidates(kind="pool", num_hard=1, num_random=1), Encoder()
    documents.refresh(model, 0)
    found = documents.outcome(model, DRAWS, THOUGHTS)
    np.testing.assert_array_equal(found.candidates, [3, 2, 3])


def test_two_standings_may_share_their_pools():
    """The gain over no thought compares ranks among the same documents."""
    documents = candidates(kind="pool", num_hard=1, num_random=0)
    documents.refresh(Encoder(), 0)
    query, near_b, near_d = [example(NEAR, 0)], angles(0.1), angles(3.0)
    own = documents.outcome(Encoder(), query, near_d)
    shared = documents.outcome(Encoder(), query, near_d, pools_near=near_b[:, 0])
    assert own.hardest_negatives[0, 0, 0] == pytest.approx(1.0)  # d
    assert shared.hardest_negatives[0, 0, 0] == pytest.approx(np.cos(2.9), abs=1e-6)  # b


def test_vectors_are_made_again_when_they_are_too_old():
    documents = candidates(kind="corpus", refresh_steps=3)
    for step, turn, age in ((5, 0.0, 0), (6, 0.5, 1), (7, 0.5, 2), (8, 0.5, 0)):
        documents.refresh(model := Encoder(turn), step)
        assert bool(model.encoded) == (age == 0)
        assert documents.metrics(step) == {"index/age": float(age)}
    # The whole circle has turned, so that c stands where a thought at 0.7 looks.
    found = documents.outcome(Encoder(), [example(NEAR, 1)], angles(0.7))
    assert found.positive_scores[0, 0, 0] == pytest.approx(1.0)


def test_a_frozen_corpus_is_encoded_once():
    documents = candidates(kind="frozen", refresh_steps=1)
    documents.refresh(Encoder(), 0)
    documents.refresh(later := Encoder(1.0), 1000)
    assert later.encoded == []
    assert documents.metrics(1000) == {"index/age": 1000.0}


def test_a_restored_corpus_ranks_as_before_and_ages_on():
    before, model = candidates(kind="corpus", refresh_steps=4), Encoder()
    before.refresh(model, 2)
    after = candidates(kind="corpus", refresh_steps=4)
    after.load_state_dict(before.state_dict())
    after.refresh(unused := Encoder(1.0), 5)
    assert unused.encoded == []
    assert after.metrics(5) == {"index/age": 3.0}
    for one, other in zip(
        jax.tree.leaves(vars(before.outcome(model, DRAWS, THOUGHTS))),
        jax.tree.leaves(vars(after.outcome(model, DRAWS, THOUGHTS))),
        strict=True,
    ):
        np.testing.assert_array_equal(one, other)
    other_corpus = CandidateDocuments(
        PoolConfig(kind="corpus"),
        [circle("near", {"a": 0.0, "b": 1.0}, [asked("q0", "a")]), FAR],
        single_device_mesh_context().mesh,
        seed=0,
    )
    with pytest.raises(DataError, match="another corpus"):
        other_corpus.load_state_dict(before.state_dict())


def test_joining_keeps_the_order_and_pads():
    def outcome(scores: list[float], positives: list[int]) -> Any:
        grades = np.zeros((1, len(scores)), np.int64)
        grades[0, positives] = 1
        return outcome_from_scores(np.array([[scores]]), grades, np.ones((1, len(scores)), bool))

    joined = joined_outcome(
        [([2], outcome([0.9, 0.8], [1])), ([0], outcome([0.1, 0.2, 0.3], [0, 2])),
         ([1], outcome([0.5], [0]))]
    )  # fmt: skip
    np.testing.assert_array_equal(joined.positive_ranks[:, 0], [[3, 1], [1, -1], [2, -1]])
    np.testing.assert_array_equal(joined.candidates, [3, 1, 2])


TWINS = circle(
    "twins",
    # A copy of each positive, of the excluded document and of the query; only f is a negative.
    {"a": 0.0, "a2": 0.0, "b": 0.5, "b2": 0.5, "x": 0.3, "x2": 0.3, "q": 0.1, "f": 2.0},
    [
        TrainingRecord(
            query_id="t0",
            query="0.1",
            positives={"a": 1, "b": 1, "b2": 2},
            negatives=("a2", "f"),
            excluded=frozenset({"x"}),
        )
    ],
)
ELSEWHERE = circle("elsewhere", {"a3": 0.0, "g": 2.5}, [asked("e0", "a3"), asked("e1", "g")])


@pytest.mark.parametrize("kind", ["batch", "pool", "corpus", "frozen"])
def test_copies_of_a_positive_are_no_negatives(kind: str):
    """By hand: positives a and b2 (the better grade of b's text) against f, at an angle of 0.1."""
    sets = (TWINS, ELSEWHERE)
    config = PoolConfig(index="numpy", kind=kind, num_hard=3, num_random=3)
    documents = CandidateDocuments(config, sets, single_device_mesh_context().mesh, seed=0)
    documents.refresh(Encoder(), 0)
    query = example(TWINS, 0, negatives=("a2", "f"))
    (found,) = [documents.outcome(Encoder(), [query], angles(0.1))]
    assert found.candidates.tolist() == [3]
    assert sorted(found.positive_grades[0].tolist()) == [1, 2]
    assert sorted(found.positive_ranks[0, 0].tolist()) == [1, 2]
    hardest = found.hardest_negatives[0, 0]
    assert hardest[0] == pytest.approx(np.cos(1.9), abs=1e-6)
    assert not np.isfinite(hardest[1:]).any()


def test_a_copy_in_another_set_of_the_step_is_no_negative():
    sets = (TWINS, ELSEWHERE)
    config = PoolConfig(kind="batch")
    documents = CandidateDocuments(config, sets, single_device_mesh_context().mesh, seed=0)
    step = [example(TWINS, 0, negatives=("f",)), example(ELSEWHERE, 0), example(ELSEWHERE, 1)]
    found = documents.outcome(Encoder(), step, angles(0.1, 0.1, 2.5))
    # t0: a, b2, f, g without a3; e0: a3 against b2, f, g; e1: all five.
    assert found.candidates.tolist() == [4, 4, 5]
    assert found.positive_ranks[:, 0].tolist() == [[1, 2], [1, -1], [1, -1]]
