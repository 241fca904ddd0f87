"""The row of verified rankings: those of the own thought, reordered by the model itself."""

import time
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError
from t1_jax.evaluate.config import EvaluationConfig
from t1_jax.evaluate.controls import VERIFIED
from t1_jax.evaluate.results import Row
from t1_jax.retrieval import Collection, Run
from t1_jax.retriever import ThoughtScorer, Verification, verify_run

Score = Callable[[Run], tuple[dict[str, Float[np.ndarray, " B"]], tuple[str, ...]]]
"""Scores of each query by metric, and the queries without a result."""


def verified_row(
    model: object,
    own: Row,
    collection: Collection,
    config: EvaluationConfig,
    verification: Verification,
    score: Score,
    *,
    task: str | None,
    show_progress_bar: bool = False,
) -> Row:
    """The row of the own thought with the first documents of each query reordered.

    Args:
        model: scores the titles; a `ThoughtScorer`.
        own: the row of the own thought.
        collection: the queries and documents of the row.
        config: its instruction, if it has one.
        verification: how many documents, and with which weight.
        score: scores a run.
        task: name of the instruction in the preset, if the config has none.
        show_progress_bar: whether to show a bar with the time left.

    Raises:
        ConfigError: the model cannot score thoughts.
    """
    if not isinstance(model, ThoughtScorer):
        raise ConfigError(
            f"{type(model).__name__} cannot say how likely a title is, so nothing can be verified",
            hint="set verify=0",
        )
    start = time.perf_counter()
    run = verify_run(
        model,
        own.run,
        collection.queries,
        collection.documents_by_id,
        verification,
        task=task,
        instruction=config.instruction,
        show_progress_bar=show_progress_bar,
    )
    values, missing = score(run)
    return replace(
        own,
        name=f"{own.name.removesuffix('own')}{VERIFIED.name}",
        label=own.label.replace("own thought", VERIFIED.label),
        control=VERIFIED.name,
        run=run,
        values=values,
        missing=missing,
        relevant_ranks=_ranks(own, run),
        seconds=own.seconds + time.perf_counter() - start,
    )


def _ranks(own: Row, run: Run) -> dict[str, dict[str, int]]:
    """Ranks of the relevant documents: verifying changes those in the run, and no others."""
    places = {
        query_id: {name: rank for rank, name in enumerate(scores, 1)}
        for query_id, scores in run.items()
    }
    return {
        query_id: {name: places.get(query_id, {}).get(name, rank) for name, rank in ranks.items()}
        for query_id, ranks in own.relevant_ranks.items()
    }
