"""A small judged collection and what evaluates it."""

import pytest

from t1_jax.evaluate import Evaluation, EvaluationConfig, ModelFacts, evaluate_collection
from t1_jax.generate import FinishReason
from t1_jax.retrieval import Collection, Document, Query
from tests.evaluate.toys import LetterModel


@pytest.fixture
def collection() -> Collection:
    """Query q1 needs its thought, q2 is hurt by its own, q3 does not care; q4 has no answer."""
    return Collection(
        name="toys",
        documents=(
            Document(id="ball", title="bbbb", text="bbbb"),
            Document(id="car", title="cccc", text="cccc"),
            Document(id="copy", title="cccc", text="cccc"),
            Document(id="doll", text="dddd\nand a very long tail " + "d" * 40),
            Document(id="egg", title="e <b>&", text="eeee"),
        ),
        queries=(
            Query(id="q1", text="xxxx c"),
            Query(id="q2", text="dd b"),
            Query(id="q3", text="e\n<i>e</i>"),
            Query(id="q4", text="ff"),
        ),
        qrels={
            "q1": {"ball": 2, "car": 1},
            "q2": {"doll": 1},
            "q3": {"egg": 1, "ball": 0},
            "q4": {},
        },
        excluded={"q1": frozenset({"copy"})},
        metadata={"description": "toys -> names", "license": "<none>"},
    )


@pytest.fixture
def model() -> LetterModel:
    return LetterModel(
        thoughts={
            "xxxx c": "bbbb bbbb bbbb",
            "dd b": "<script>bbbb</script> <emb_token> bbbb bbbb",
            "e\n<i>e</i>": "e \x00e",
        },
        ends={"dd b": FinishReason.LENGTH},
    )


@pytest.fixture
def facts() -> ModelFacts:
    return ModelFacts(name="letters", encoder="ab12", prompt="cd34", details={"dtype": "float32"})


@pytest.fixture
def config() -> EvaluationConfig:
    return EvaluationConfig(
        max_thought_tokens=9,
        top_k=10,
        metrics=("nDCG@10", "recall@10", "MRR"),
        bootstrap_samples=200,
    )


@pytest.fixture
def evaluation(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
) -> Evaluation:
    return evaluate_collection(model, collection, config, facts=facts, split="test")
