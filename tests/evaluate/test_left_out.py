"""Sentences of the thoughts of some queries, left out in turn during an evaluation."""

from dataclasses import replace

import pytest

from t1_jax.errors import ConfigError
from t1_jax.evaluate import EvaluationConfig, evaluate_collection
from tests.evaluate.toys import LetterModel


@pytest.fixture
def talkative() -> LetterModel:
    return LetterModel(thoughts={"xxxx c": "bbbb bbbb. cc."})


def test_a_sentence_moves_the_documents_it_names(talkative, collection, facts, config) -> None:
    config = replace(config, leave_one_out=3, controls=("own", "no-think"))
    evaluation = evaluate_collection(talkative, collection, config, facts=facts)
    assert set(evaluation.sentence_effects) == {"q1", "q2", "q3"}
    first, second = evaluation.sentence_effects["q1"]
    assert (first.text, second.text) == ("bbbb bbbb.", "cc.")
    assert first.similarity < second.similarity < 1
    moved = {move.document_id: (move.before, move.after) for move in first.moves}
    assert moved["ball"][1] > moved["ball"][0]
    assert "copy" not in moved  # excluded for q1
    assert evaluation.sentence_effects["q2"] == ()  # an empty thought


def test_nothing_is_left_out_unless_asked(talkative, collection, facts, config) -> None:
    evaluation = evaluate_collection(talkative, collection, config, facts=facts)
    assert evaluation.sentence_effects == {}
    one = replace(config, leave_one_out=1)
    assert len(evaluate_collection(talkative, collection, one, facts=facts).sentence_effects) == 1
    baseline = replace(config, leave_one_out=2, controls=("no-think",))
    found = evaluate_collection(talkative, collection, baseline, facts=facts)
    assert found.sentence_effects == {}
    with pytest.raises(ConfigError, match="leave_one_out"):
        EvaluationConfig(leave_one_out=-1)
