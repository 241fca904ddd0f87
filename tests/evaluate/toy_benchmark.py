"""The tiny benchmark, evaluated with the model that compares letters."""

import json
from pathlib import Path
from typing import Any

from t1_jax.evaluate import (
    EvaluationConfig,
    ModelFacts,
    evaluate_collection,
    mteb_model_meta,
    write_task,
)
from t1_jax.retrieval.benchmarks import BenchmarkData
from tests.evaluate.toys import LetterModel

FACTS = ModelFacts(name="letters", encoder="ab", prompt="cd")
SETTINGS = {"queries": "original", "model": {"dtype": "float32", "limits": [1, 2]}}
CONFIG = EvaluationConfig(
    controls=("no-think",),
    bm25=False,
    top_k=1000,
    metrics=("nDCG@10", "recall@10", "recall@1"),
    bootstrap_samples=100,
)


def evaluate_task(data: BenchmarkData, task: str, output: Path) -> Path:
    """Evaluates a task with the model that compares letters, and writes its folder."""
    collection = data.collection(task)
    evaluation = evaluate_collection(LetterModel(), collection, CONFIG, facts=FACTS)
    folder = output / collection.name
    write_task(
        folder,
        evaluation,
        data.benchmark,
        task,
        settings=SETTINGS,
        scorable=len(collection.queries),
        notes=["a note"],
        model_meta=mteb_model_meta(
            "owner/letters",
            revision="0" * 40,
            parameters=27,
            embed_dim=27,
            max_tokens=99,
            trained_on=[],
            uses_instructions=False,
        ),
    )
    return folder


def read_json(path: Path) -> Any:
    return json.loads(path.read_text())
