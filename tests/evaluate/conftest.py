"""A small judged collection and what evaluates it."""

from pathlib import Path

import pytest

from t1_jax.evaluate import Evaluation, EvaluationConfig, ModelFacts, evaluate_collection
from t1_jax.generate import FinishReason
from t1_jax.retrieval import Collection, Document, Query
from t1_jax.retrieval.benchmarks import BenchmarkData, load_benchmark
from tests.evaluate.toy_benchmark import evaluate_task
from tests.evaluate.toys import LetterModel
from tests.retrieval.benchmarks.bright_files import TASKS, TINY, TINY_LONG, write_bright


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


@pytest.fixture(scope="session")
def bright_data(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkData:
    """The tiny benchmark in BRIGHT's layout; `long.yaml` beside it has its long documents."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "long.yaml").write_text(TINY_LONG)
    return BenchmarkData(
        benchmark=load_benchmark(folder / "tiny.yaml"), folder=write_bright(folder / "data")
    )


@pytest.fixture(scope="session")
def bright_output(bright_data: BenchmarkData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folders of its finished tasks."""
    folder = tmp_path_factory.mktemp("results") / "tiny"
    for task in TASKS:
        evaluate_task(bright_data, task, folder)
    return folder
