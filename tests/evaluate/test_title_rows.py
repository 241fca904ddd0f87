"""The rows of an evaluation whose prompts or thoughts hold titles of documents."""

import dataclasses

import pytest

from t1_jax.errors import ConfigError
from t1_jax.evaluate import Evaluation, EvaluationConfig, evaluate_collection
from t1_jax.evaluate.report import render_report
from t1_jax.evaluate.table import comparison_sentences
from t1_jax.text import PromptPreset, T1Tokenizer, load_preset
from tests.evaluate.test_verified import COLLECTION, FACTS
from tests.evaluate.toys import LetterModel


@dataclasses.dataclass
class ChoosingModel(LetterModel):
    """A letter model with prompts."""

    tokenizer: T1Tokenizer | None = None
    preset: PromptPreset = dataclasses.field(default_factory=lambda: load_preset("t1-candidates"))


def evaluated(model: LetterModel, **options) -> Evaluation:
    options = {"bm25": False, "index": "numpy", "bootstrap_samples": 50, **options}
    collection = dataclasses.replace(COLLECTION, excluded={"2": frozenset({"cdd"})})
    return evaluate_collection(model, collection, EvaluationConfig(**options), facts=FACTS)


def test_three_rows_share_the_titles_that_the_first_pass_finds(
    tiny_tokenizer: T1Tokenizer,
) -> None:
    model = ChoosingModel(thoughts={"ab": "b", "cd": "d"}, tokenizer=tiny_tokenizer)
    evaluation = evaluated(model, controls=("own", "no-think"), candidates=2)
    names = ["candidates", "candidates-empty", "candidates-nearest"]
    assert [row.name for row in evaluation.rows[2:]] == [f"t1-{name}" for name in names]
    row, empty, nearest = evaluation.rows[2:]
    assert row.label == "T1, own thought over candidates"
    titles = [["ab", "abb"], ["cd", "ab"]]  # cdd is excluded
    calls = [call for call in model.calls if "candidates" in call]
    assert [call["candidates"] for call in calls] == [titles] * 3
    assert [call["thoughts"] for call in calls] == [None, ["", ""], ["ab", "cd"]]
    assert [thought.text for thought in nearest.thoughts["2"]] == ["cd"]
    assert not row.oracle
    assert row.seconds > 0
    # The thought of query 1 adds a b, so that abb is nearest; an empty one does not.
    assert next(iter(row.run["1"])) == "abb"
    assert next(iter(empty.run["1"])) == "ab"
    firsts = [call for call in model.calls if call.get("think") is False]
    assert len(firsts) == 1  # the control without a thought is the first pass
    text = " ".join(comparison_sentences(evaluation))
    assert "own thought over candidates minus own thought" in text
    assert "minus candidates with an empty thought" in text
    assert "The model thinks over them" in render_report([evaluation])
    without = evaluated(model, controls=("own",))
    assert "The model thinks over them" not in render_report([without])
    assert evaluation.systems[0].config.candidates == 2


def test_a_model_without_such_prompts_is_an_error(tiny_tokenizer: T1Tokenizer) -> None:
    with pytest.raises(ConfigError, match="LetterModel has no tokenizer"):
        evaluated(LetterModel(), controls=("own",), candidates=2)
    plain = ChoosingModel(tokenizer=tiny_tokenizer, preset=load_preset("t1"))
    with pytest.raises(ConfigError, match="'t1' show no candidates"):
        evaluated(plain, controls=("own",), candidates=2)
    with pytest.raises(ConfigError, match="candidates must be at least 0"):
        EvaluationConfig(candidates=-1)


def test_a_constrained_row_is_declared_transductive(tiny_tokenizer: T1Tokenizer) -> None:
    model = ChoosingModel(tokenizer=tiny_tokenizer)
    evaluation = evaluated(model, controls=("own",), constrained=True)
    (row,) = evaluation.rows[1:]
    assert row.label == "T1, title as the thought (transductive)"
    (call,) = [call for call in model.calls if "choices" in call]
    assert repr(call["choices"]).startswith("Choices(4 texts")
    page = render_report([evaluation])
    assert page.count("transductive") >= 2
    assert "transductive" not in render_report([evaluated(model, controls=("own",))])
    with pytest.raises(ConfigError, match="set constrained=false|LetterModel has no tokenizer"):
        evaluated(LetterModel(), controls=("own",), constrained=True)
