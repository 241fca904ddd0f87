"""Scores in the files of others: BRIGHT's score.json and results.json, mteb's TaskResult."""

from collections.abc import Mapping, Set
from typing import Any

import numpy as np

from t1_jax.retrieval import Run, score_run
from t1_jax.retrieval.benchmarks import Benchmark

_BRIGHT_CUTS = (1, 5, 10, 25, 50, 100)
_BRIGHT_NAMES = {"nDCG": "NDCG", "MAP": "MAP", "recall": "Recall", "P": "P"}
_MTEB_CUTS = (1, 3, 5, 10, 20, 100, 1000)
_MTEB_NAMES = {"nDCG": "ndcg", "MAP": "map", "recall": "recall", "P": "precision"}

Qrels = Mapping[str, Mapping[str, int]]


def bright_results(
    run: Run, qrels: Qrels, excluded: Mapping[str, Set[str]] | None = None
) -> dict[str, float]:
    """The 25 means of BRIGHT's `results.json`, rounded to 5 places as there.

    A query without any result counts 0; BRIGHT's harness leaves it out of the mean.

    Raises: as `score_run`.
    """
    metrics = [f"{name}@{cut}" for name in _BRIGHT_NAMES for cut in _BRIGHT_CUTS]
    scores = score_run(run, qrels, metrics=[*metrics, "MRR"], excluded=excluded)
    return {
        **{
            f"{theirs}@{cut}": round(scores.mean(f"{ours}@{cut}"), 5)
            for ours, theirs in _BRIGHT_NAMES.items()
            for cut in _BRIGHT_CUTS
        },
        "MRR": round(scores.mean("MRR"), 5),
    }


def mteb_task_result(
    benchmark: Benchmark,
    task: str,
    run: Run,
    qrels: Qrels,
    *,
    excluded: Mapping[str, Set[str]] | None = None,
    revision: str,
    seconds: float,
) -> dict[str, Any] | None:
    """The scores of a task as mteb's `TaskResult` has them; None if mteb does not have the task.

    `mteb_version` is null: mteb did not compute them.

    Args:
        benchmark: names the metric and the split.
        task: name of the task in the benchmark.
        run: rankings of up to 1,000 documents.
        qrels: relevance labels.
        excluded: documents to remove from rankings.
        revision: commit of the data.
        seconds: wall time of the evaluation.

    Raises: as `score_run`.
    """
    name = benchmark.tasks[task].mteb
    if name is None:
        return None
    metrics = {f"{ours}@{cut}": None for ours in _MTEB_NAMES for cut in _MTEB_CUTS}
    metrics |= {"MRR": None, benchmark.metric: None}
    scores = score_run(run, qrels, metrics=list(metrics), excluded=excluded)
    reciprocal = np.array(list(scores.per_query["MRR"].values()))
    values = {
        **{
            f"{theirs}_at_{cut}": round(scores.mean(f"{ours}@{cut}"), 6)
            for ours, theirs in _MTEB_NAMES.items()
            for cut in _MTEB_CUTS
        },
        # The rank of the first relevant document is 1 / MRR.
        **{
            f"mrr_at_{cut}": round(float((reciprocal * (reciprocal * cut > 0.999)).mean()), 6)
            for cut in _MTEB_CUTS
        },
    }
    main = round(scores.mean(benchmark.metric), 6)
    score = {"main_score": main, **values, "hf_subset": "default", "languages": ["eng-Latn"]}
    return {
        "dataset_revision": revision,
        "task_name": name,
        "mteb_version": None,
        "scores": {benchmark.mteb_split: [score]},
        "evaluation_time": seconds,
    }


def mteb_model_meta(
    name: str,
    *,
    revision: str,
    parameters: int,
    embed_dim: int,
    max_tokens: int,
    trained_on: "list[str] | None",
    uses_instructions: bool,
) -> dict[str, Any]:
    """A model as mteb's `model_meta.json` has it.

    `trained_on` are names of data sets, None if they are unknown. What only the authors know, such
    as license and release date, is null.
    """
    return {
        "loader": None,
        "name": name,
        "revision": revision,
        "release_date": None,
        "languages": None,
        "n_parameters": parameters,
        "memory_usage_mb": None,
        "max_tokens": max_tokens,
        "embed_dim": embed_dim,
        "license": None,
        "open_weights": None,
        "public_training_code": None,
        "public_training_data": None,
        "framework": ["JAX"],
        "similarity_fn_name": "cosine",
        "use_instructions": uses_instructions,
        "training_datasets": trained_on,
    }
