"""How good the model is right now: retrieval of held-out queries, thoughts and all."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from t1_jax.generate import SamplingOptions, Thought
from t1_jax.retrieval import Collection, build_index, score_run
from t1_jax.retriever import T1
from t1_jax.train.config import ValidationConfig

MEASURE = "nDCG@10"


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was measured.

    Attributes:
        metrics: `validation/<collection>/ndcg@10`, their mean, and the thoughts' lengths.
        samples: some queries with their thought and its score.
    """

    metrics: Mapping[str, float]
    samples: list[dict[str, Any]]


def validate(
    model: T1, collections: Mapping[str, Collection], config: ValidationConfig, *, think: bool
) -> Validation:
    """Ranks each collection's documents for its queries.

    Args:
        model: with the weights of the moment.
        collections: by name, which is also the preset's task.
        config: budget and temperature of thoughts.
        think: whether queries are embedded after a thought.
    """
    metrics: dict[str, float] = {}
    samples: list[dict[str, Any]] = []
    scores, lengths, forced = [], [], []
    for name, collection in collections.items():
        ids = [query.id for query in collection.queries]
        vectors, thoughts = model.encode_query(
            [query.text for query in collection.queries],
            query_ids=ids,
            task=name,
            think=think,
            budget=config.budget if think else None,
            sampling=SamplingOptions(temperature=config.temperature),
            return_thoughts=True,
        )
        documents = [document.full_text for document in collection.documents]
        index = build_index(
            "device",
            [document.id for document in collection.documents],
            model.encode_document(documents),
            mesh=model.placement.mesh,
        )
        rows = [index.table.rows_of(collection.excluded.get(query_id, ())) for query_id in ids]
        run = index.search(vectors, 100, rows).to_run(ids, index.ids)
        per_query = score_run(
            run, collection.qrels, measures=[MEASURE], excluded=collection.excluded
        ).per_query[MEASURE]
        scores.append(float(np.mean(list(per_query.values()))))
        metrics[f"validation/{name}/ndcg@10"] = scores[-1]
        drawn = [thought for group in thoughts for thought in group]
        lengths += [thought.reasoning_tokens for thought in drawn]
        forced += [thought.forced for thought in drawn]
        samples += [
            _sample(name, collection, number, thoughts[number], per_query)
            for number in range(min(len(ids), 8))
        ]
    metrics["validation/ndcg@10"] = float(np.mean(scores))
    if lengths:
        metrics["validation/length"] = float(np.mean(lengths))
        metrics["validation/forced_share"] = float(np.mean(forced))
    return Validation(metrics=metrics, samples=samples)


def _sample(
    name: str,
    collection: Collection,
    number: int,
    thoughts: list[Thought],
    per_query: Mapping[str, float],
) -> dict[str, Any]:
    query = collection.queries[number]
    return {
        "set": name,
        "query_id": query.id,
        "query": query.text,
        "thought": thoughts[0].text if thoughts else "",
        "end": thoughts[0].end.value if thoughts else "",
        "gold": list(collection.gold_titles(query.id)),
        "ndcg@10": per_query.get(query.id, 0.0),
    }
