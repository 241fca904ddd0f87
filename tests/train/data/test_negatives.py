import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval import Document, build_index
from t1_jax.train.data import (
    Example,
    TrainingRecord,
    TrainingSet,
    candidate_mask,
    collect_candidates,
)
from t1_jax.train.data.negatives import NO_NEGATIVE, exclude_known_answers
from t1_jax.train.mining import Ranking, mine_negatives
from t1_jax.train.rewards import PoolConfig, build_pools

# Four texts for eight documents a set: many copies.
TEXTS = ("one", "two", "three", "ONE ")


def a_set(name: str, records: list[TrainingRecord]) -> TrainingSet:
    corpus = {f"d{i}": Document(id=f"d{i}", text=TEXTS[i % 4]) for i in range(8)}
    return TrainingSet(name=name, records=tuple(records), documents=corpus)


@st.composite
def steps(example) -> list[tuple[str, dict]]:
    found = []
    for number in range(example(st.integers(1, 5))):
        names = example(st.permutations([f"d{i}" for i in range(8)]))
        a, b, c = sorted(example(st.lists(st.integers(1, 6), min_size=3, max_size=3)))
        fields = {
            "query_id": f"q{number}",
            "query": f"query {number}",
            "positives": dict.fromkeys(names[:a], 1),
            "negatives": tuple(names[a:b]),
            "excluded": frozenset(names[b:c]),
        }
        found.append((example(st.sampled_from(["x", "y"])), fields))
    return found


def drawn(step: list[tuple[str, dict]]) -> tuple[list[Example], list[TrainingSet]]:
    spare = TrainingRecord(query_id="spare", query="spare", positives={"d0": 1})
    records: dict[str, list[TrainingRecord]] = {"x": [spare], "y": [spare]}
    examples = []
    for name, fields in step:
        record = TrainingRecord(**fields)
        records[name].append(record)
        examples.append(
            Example(
                set_name=name,
                record=record,
                positive=next(iter(record.positives)),
                negatives=record.negatives[:2],
                thought=None,
            )
        )
    return examples, [a_set(name, items) for name, items in records.items()]


@given(steps())
def test_candidates_are_each_document_once(step: list[tuple[str, dict]]):
    examples, _ = drawn(step)
    keys, positive, negative = collect_candidates(examples)
    assert len(set(keys)) == len(keys)
    used = {(d.set_name, name) for d in examples for name in (d.positive, *d.negatives)}
    assert set(keys) == used
    for row, example in enumerate(examples):
        assert keys[positive[row]] == (example.set_name, example.positive)
        mine = [keys[i] for i in negative[row] if i != NO_NEGATIVE]
        assert mine == [(example.set_name, name) for name in example.negatives]
        # What is missing stands at the end.
        assert (negative[row][len(mine) :] == NO_NEGATIVE).all()


def reference(example: Example, key: tuple[str, str], sets: dict[str, TrainingSet]) -> bool:
    """M of one query and one candidate, word for word."""

    def words(set_name: str, name: str) -> str:
        return sets[set_name].documents[name].text.strip().lower()

    if key == (example.set_name, example.positive):
        return True
    taboo = [*example.record.positives, *example.record.excluded]
    if key[0] == example.set_name and key[1] in taboo:
        return False
    return words(*key) not in [words(example.set_name, name) for name in taboo]


@given(steps())
def test_the_mask_is_what_brute_force_gives(step: list[tuple[str, dict]]):
    examples, sets = drawn(step)
    named = {item.name: item for item in sets}
    keys = [*collect_candidates(examples).keys, ("x", "d7"), ("y", "d6")]
    keys = list(dict.fromkeys(keys))
    expected = [[reference(example, key, named) for key in keys] for example in examples]
    np.testing.assert_array_equal(candidate_mask(examples, keys, sets), expected)


def test_a_mask_by_hand():
    record = TrainingRecord(
        query_id="q",
        query="x",
        positives={"d0": 1, "d1": 1},
        negatives=("d6",),
        excluded=frozenset({"d2"}),
    )
    item = TrainingSet(
        name="x",
        records=(record,),
        documents={f"d{i}": Document(id=f"d{i}", text=f"text {i}") for i in range(7)}
        | {"copy": Document(id="copy", text="Text  0"), "asked": Document(id="asked", text="x")},
    )
    other = TrainingSet(
        name="y",
        records=(TrainingRecord(query_id="q", query="z", positives={"d2": 1}),),
        documents={"d2": Document(id="d2", text="another"), "c": Document(id="c", text="text 1")},
    )
    example = Example(set_name="x", record=record, positive="d0", negatives=("d6",), thought=None)
    expected = {
        ("x", "d0"): True,  # its own column
        ("x", "copy"): False,  # the same words
        ("x", "d1"): False,  # another positive
        ("x", "d2"): False,  # excluded
        ("x", "d6"): True,
        ("x", "asked"): False,  # the query itself, as a document
        ("y", "d2"): True,  # an excluded id, but of another set
        ("y", "c"): False,  # the words of another positive
    }
    mask = candidate_mask([example], list(expected), [item, other])
    assert dict(zip(expected, mask[0].tolist(), strict=True)) == expected


def test_a_fixed_width_for_hard_negatives():
    examples, _ = drawn(
        [
            (
                "x",
                {
                    "query_id": "q",
                    "query": "x",
                    "positives": {"d0": 1},
                    "negatives": ("d1", "d2"),
                },
            )
        ]
    )
    assert collect_candidates(examples, 4).negative_index.tolist() == [[1, 2, -1, -1]]
    with pytest.raises(DataError, match="an example has 2 hard negatives, more than 1"):
        collect_candidates(examples, 1)


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
