"""A query's own document and the answers of its twins are never its negatives."""

import numpy as np

from t1_jax.retrieval import Document, build_index
from t1_jax.train.data import Example, TrainingRecord, TrainingSet, candidate_mask
from t1_jax.train.data.negatives import exclude_known_answers
from t1_jax.train.mining import Ranking, mine_negatives
from t1_jax.train.rewards import PoolConfig, build_pools

DOCUMENTS = {
    item.id: item
    for item in (
        Document(id="q1", text="a rejoinder"),  # the id of query q1
        Document(id="thread", title="", text="Why  ZOOS?"),  # the text of query q1
        Document(id="titled", title="why", text="zoos?"),
        Document(id="a", text="first answer"),
        Document(id="b", text="second answer"),
        Document(id="c", text="another matter"),
    )
}
FIRST = TrainingRecord(query_id="q1", query="why zoos?", positives={"a": 1})
SECOND = TrainingRecord(query_id="q2", query="Why zoos? ", positives={"b": 2})


def test_the_query_itself_and_the_answers_of_its_twin_are_excluded():
    records = (
        TrainingRecord(
            query_id="q1",
            query="why zoos?",
            positives={"a": 1},
            negatives=("b", "c", "q1"),
            excluded=frozenset({"titled"}),
        ),
        SECOND,
    )
    (first, second), removed = exclude_known_answers(records, DOCUMENTS)
    assert first.excluded == {"q1", "thread", "titled", "b"}
    assert first.negatives == ("c",)
    assert second.excluded == {"thread", "titled", "a"}
    assert (first.positives, second.positives) == ({"a": 1}, {"b": 2})
    assert removed == 2


def test_what_answers_under_another_instruction_may_be_named_a_negative():
    told = TrainingRecord(
        query_id="q1",
        query="why zoos?",
        positives={"a": 1},
        negatives=("b",),
        instruction="find rejoinders",
    )
    (first, second), removed = exclude_known_answers((told, SECOND), DOCUMENTS)
    assert (first.negatives, removed) == (("b",), 0)
    assert "a" in second.excluded  # which names it no negative, so that it must not become one


def test_an_own_document_that_answers_stays_an_answer():
    record = TrainingRecord(query_id="q1", query="why zoos?", positives={"q1": 1, "thread": 1})
    (found,), removed = exclude_known_answers((record,), DOCUMENTS)
    assert (found.positives, found.excluded, removed) == (record.positives, {"titled"}, 0)


def test_neither_mining_nor_pools_nor_batches_offer_them():
    run = {name: 1.0 - place / 10 for place, name in enumerate(DOCUMENTS)}
    ranking = Ranking(name="bm25", run={"q1": run, "q2": run}, positive_scores={})
    mined, report = mine_negatives((FIRST, SECOND), DOCUMENTS, [ranking])
    assert [record.negatives for record in mined] == [("c",), ("q1", "c")]
    assert report.removed == 0
    records, _ = exclude_known_answers((FIRST, SECOND), DOCUMENTS)
    index = build_index("numpy", list(DOCUMENTS), np.eye(6, 4) + 1)
    config = PoolConfig(num_hard=6, num_random=6)
    pools = build_pools(records, np.ones((2, 4)), index, config=config, seed=0)
    assert [set(pool) for pool in pools] == [{"a", "c"}, {"b", "c", "q1"}]
    item = TrainingSet(name="zoo", records=records, documents=DOCUMENTS)
    examples = [
        Example(set_name="zoo", record=record, positive=name, negatives=(), thought=None)
        for record, name in zip(records, ("a", "b"), strict=True)
    ]
    columns = [("zoo", name) for name in ("a", "b", "c")]
    assert candidate_mask(examples, columns, [item]).tolist() == [
        [True, False, True],
        [False, True, True],
    ]
