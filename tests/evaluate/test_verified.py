"""The row of verified rankings in an evaluation."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.evaluate import EvaluationConfig, ModelFacts, evaluate_collection
from t1_jax.evaluate.report import render_report
from t1_jax.evaluate.table import comparison_sentences
from t1_jax.retrieval import Collection, Document, Query
from tests.evaluate.toys import LetterModel

FACTS = ModelFacts(name="letters", encoder="e", prompt="p")
COLLECTION = Collection(
    name="toy",
    documents=(
        Document(id="ab", title="ab", text="ab"),
        Document(id="abb", title="abb", text="abb"),
        Document(id="cd", title="cd", text="cd"),
        Document(id="cdd", title="cdd", text="cdd"),
    ),
    queries=(Query(id="1", text="ab"), Query(id="2", text="cd")),
    qrels={"1": {"abb": 1}, "2": {"cd": 1}},
)


@dataclass
class JudgingModel(LetterModel):
    """Finds longer titles more likely."""

    def score_thoughts(
        self, texts: Sequence[str], thoughts: Sequence[Sequence[str]], **options: object
    ) -> list[np.ndarray]:
        self.calls.append({"scored": list(texts), **options})
        return [
            np.array([0 if query == "?" else len(text) for text in group], np.float32)
            for query, group in zip(texts, thoughts, strict=True)
        ]


def evaluated(model: LetterModel, **options):
    config = EvaluationConfig(bm25=False, index="numpy", bootstrap_samples=50, **options)
    return evaluate_collection(model, COLLECTION, config, facts=FACTS)


def test_the_own_ranking_is_reordered_in_a_row_of_its_own() -> None:
    model = JudgingModel()
    evaluation = evaluated(model, controls=("own", "no-think"), verify=2, verify_weight=1.0)
    assert [row.name for row in evaluation.rows] == ["t1-own", "t1-no-think", "t1-verified"]
    own, row = evaluation.row("t1-own"), evaluation.row("t1-verified")
    assert row.label == "T1, own thought, verified"
    assert own.relevant_ranks == {"1": {"abb": 2}, "2": {"cd": 1}}
    assert row.relevant_ranks == {"1": {"abb": 1}, "2": {"cd": 2}}
    assert list(row.run["1"])[:2] == ["abb", "ab"]
    np.testing.assert_allclose(row.values["MRR"], [1.0, 0.5])
    assert row.thoughts == own.thoughts
    assert row.seconds >= own.seconds
    assert model.calls[-1]["scored"] == ["ab", "cd"]
    assert any("verified minus not verified" in line for line in comparison_sentences(evaluation))
    assert "how likely the model finds their titles" in render_report([evaluation])


def test_without_verify_there_is_no_such_row() -> None:
    evaluation = evaluated(JudgingModel(), controls=("own",))
    assert [row.name for row in evaluation.rows] == ["t1-own"]
    assert evaluation.control("verified") is None


def test_a_model_that_scores_no_thoughts_cannot_verify() -> None:
    with pytest.raises(ConfigError, match="LetterModel cannot say how likely a title is"):
        evaluated(LetterModel(), controls=("own",), verify=2)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"controls": ("no-think",), "verify": 4}, "control 'own', which is not evaluated"),
        ({"verify": 1}, "at least 2 documents"),
        ({"verify": 200}, "verify is 200, and the rankings have 100"),
        ({"verify": 4, "verify_weight": -1.0}, "must be positive"),
    ],
)
def test_settings_that_make_no_sense(options, said) -> None:
    with pytest.raises(ConfigError, match=said):
        EvaluationConfig(**options)
