import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.evaluate import CONTROLS, EvaluationConfig
from t1_jax.evaluate.controls import ControlQueries, pair_with_others
from t1_jax.generate import SamplingParams
from t1_jax.retrieval import Collection
from tests.evaluate.toys import LetterModel, letters


@given(st.lists(st.integers(0, 50), min_size=2, max_size=40), st.integers(0, 5))
def test_pairing_uses_every_thought_once_and_never_the_own(lengths: list[int], seed: int):
    ids = [f"q{number}" for number in range(len(lengths))]
    donors = pair_with_others(ids, lengths, [set() for _ in ids], seed=seed)
    assert sorted(donors) == list(range(len(ids)))
    assert all(donor != position for position, donor in enumerate(donors))
    assert donors == pair_with_others(ids, lengths, [set() for _ in ids], seed=seed)


@given(st.lists(st.tuples(st.integers(0, 50), st.integers(0, 4)), min_size=2, max_size=40))
def test_pairing_avoids_thoughts_on_the_same_answer_wherever_that_is_possible(
    queries: list[tuple[int, int]],
):
    answers = [{f"d{answer}"} for _, answer in queries]
    donors = pair_with_others(
        [f"q{i}" for i in range(len(queries))], [n for n, _ in queries], answers
    )
    assert sorted(donors) == list(range(len(queries)))
    assert all(donor != position for position, donor in enumerate(donors))
    largest = max(answers.count(answer) for answer in answers)
    clashes = sum(answers[position] == answers[donor] for position, donor in enumerate(donors))
    if 2 * largest <= len(queries):
        assert clashes == 0


def test_pairing_matches_lengths():
    lengths = [100, 3, 50, 99, 2, 51]
    donors = pair_with_others([f"q{i}" for i in range(6)], lengths, [set() for _ in lengths])
    assert donors == [3, 4, 5, 0, 1, 2]


def test_one_query_alone_has_nobody_to_borrow_from():
    with pytest.raises(DataError, match="at least 2 queries"):
        pair_with_others(["q"], [3], [set()])


@pytest.fixture
def three(collection: Collection) -> Collection:
    return dataclasses.replace(
        collection,
        queries=collection.queries[:3],
        qrels={key: collection.qrels[key] for key in ("q1", "q2", "q3")},
    )


def test_each_control_puts_its_own_words_after_the_query(
    model: LetterModel, three: Collection, config: EvaluationConfig
):
    queries = ControlQueries(model, three, config)
    expected = {
        "own": ["bbbb bbbb bbbb", "<script>bbbb</script> <emb_token> bbbb bbbb", "e \x00e"],
        "empty": ["", "", ""],
        "repeated": ["xxxx c", "dd b", "e\n<i>e</i>"],
        "gold": ["bbbb", "dddd", "e <b>&"],
    }
    for name, thoughts in expected.items():
        found = CONTROLS[name].embed(queries)
        assert [records[0].text for records in found.thoughts] == thoughts
        wanted = [letters(f"{q.text} {t}") for q, t in zip(three.queries, thoughts, strict=True)]
        np.testing.assert_allclose(found.vectors, np.stack(wanted), atol=1e-6)
    plain = CONTROLS["no-think"].embed(queries)
    np.testing.assert_allclose(plain.vectors, np.stack([letters(q.text) for q in three.queries]))
    assert plain.thoughts == ((), (), ())


def test_another_querys_thought_says_whose_it_is(
    model: LetterModel, three: Collection, config: EvaluationConfig
):
    queries = ControlQueries(model, three, config)
    found = CONTROLS["random"].embed(queries)
    own = {
        query.id: records
        for query, records in zip(three.queries, queries.own.thoughts, strict=True)
    }
    for query, (record,) in zip(three.queries, found.thoughts, strict=True):
        assert record.source is not None
        assert record.source != query.id
        assert (record.text, record.tokens) == (
            own[record.source][0].text,
            own[record.source][0].tokens,
        )
        assert (record.finish_reason, record.log_prob_sum) == ("given", None)


def test_own_thoughts_are_drawn_once_with_the_collections_task_and_the_configs_budget(
    model: LetterModel, three: Collection, config: EvaluationConfig
):
    queries = ControlQueries(model, dataclasses.replace(three, task="riddles"), config)
    CONTROLS["random"].embed(queries)
    CONTROLS["own"].embed(queries)
    drawn = [call for call in model.calls if call["think"] and call["thoughts"] is None]
    assert drawn == [
        {"think": True, "thoughts": None, "task": "riddles", "max_thought_tokens": 9, "n": 1}
    ]
    named = ControlQueries(model, three, dataclasses.replace(config, task="games"))
    CONTROLS["empty"].embed(named)
    assert model.calls[-1]["task"] == "games"
    worded = dataclasses.replace(config, instruction="Find the animal")
    own = ControlQueries(model, dataclasses.replace(three, task="riddles"), worded)
    for embed in (own.embed("own"), own.embed("no-think"), own.embed("repeated")):
        assert len(embed.vectors) == len(three.queries)
        assert (model.calls[-1]["task"], model.calls[-1]["instruction"]) == (
            None,
            "Find the animal",
        )
    CONTROLS["empty"].embed(ControlQueries(model, three, config))
    assert model.calls[-1]["task"] is None  # the collection's name alone chooses no instruction


def test_an_appended_emb_token_is_not_in_the_log_probability(
    model: LetterModel, three: Collection, config: EvaluationConfig
):
    (ended, cut, _) = ControlQueries(model, three, config).own.thoughts
    assert (ended[0].finish_reason, ended[0].tokens, ended[0].log_prob_sum) == (
        "emb_token",
        3,
        -0.5 * 4,
    )
    assert not ended[0].emb_token_appended
    assert (cut[0].finish_reason, cut[0].tokens, cut[0].log_prob_sum) == (
        "length",
        4,
        -0.5 * 4,
    )
    assert cut[0].emb_token_appended


def test_several_thoughts_are_averaged_also_where_they_are_another_querys(
    model: LetterModel, three: Collection, config: EvaluationConfig
):
    config = dataclasses.replace(config, n=2, sampling=SamplingParams(temperature=1.0))
    queries = ControlQueries(model, three, config)
    assert [len(records) for records in queries.own.thoughts] == [2, 2, 2]
    found = CONTROLS["random"].embed(queries)
    mean = sum(letters(f"{three.queries[0].text} {record.text}") for record in found.thoughts[0])
    np.testing.assert_allclose(found.vectors[0], mean / np.linalg.norm(mean), atol=1e-6)
    assert [record.sample for record in found.thoughts[0]] == [0, 1]


def test_only_the_gold_thought_has_seen_the_answer():
    assert [name for name, control in CONTROLS.items() if control.oracle] == ["gold"]
    assert "oracle" in CONTROLS["gold"].label
