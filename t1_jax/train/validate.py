"""How good the model is right now: retrieval of held-out queries, thoughts and all."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from t1_jax.generate import FinishReason, SamplingParams, Thought
from t1_jax.retrieval import Collection, build_index, score_run
from t1_jax.retriever import T1
from t1_jax.train.config import ValidationConfig

MEASURE = "nDCG@10"
CHUNK = 256
"""Texts between two looks at whether to stop."""

_DEPTH = 100
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What was measured.

    Attributes:
        metrics: `validation/<collection>/ndcg@10`, their mean, and the thoughts' lengths and share
            of those cut off.
        samples: some queries of each collection with their thought and its score.
    """

    metrics: Mapping[str, float]
    samples: list[dict[str, Any]]


OVER_ALL = "validation/ndcg@10"
"""The mean of the collections' nDCG@10."""


def score_names(collections: Iterable[str]) -> tuple[str, ...]:
    """The scores that `validate` gives: over all collections, and of each."""
    return (OVER_ALL, *(f"validation/{name}/ndcg@10" for name in collections))


def validate(
    model: T1,
    collections: Mapping[str, Collection],
    config: ValidationConfig,
    *,
    think: bool,
    samples: int,
    check: Callable[[], None] = lambda: None,
) -> Validation:
    """Ranks each collection's documents for its queries.

    Args:
        model: with the weights of the moment.
        collections: by name.
        config: budget and temperature of thoughts.
        think: whether queries are embedded after a thought.
        samples: queries of each collection to keep for reading.
        check: called now and then, on all processes together; what it raises ends the validation,
            half of which compares with nothing.
    """
    metrics: dict[str, float] = {}
    kept: list[dict[str, Any]] = []
    drawn: list[Thought] = []
    for name, collection in collections.items():
        queries, documents, thoughts = _encoded(
            model, collection, config, think=think, task=collection.task, check=check
        )
        per_query = _scores(model, collection, queries, documents)
        metrics[f"validation/{name}/ndcg@10"] = float(np.mean(list(per_query.values())))
        drawn += [thought for group in thoughts for thought in group]
        kept += [
            _sample(name, collection, number, thoughts[number], per_query)
            for number in range(min(len(thoughts), samples))
        ]
    metrics[OVER_ALL] = float(np.mean(list(metrics.values())))
    if drawn:
        cut = [thought.finish_reason is FinishReason.LENGTH for thought in drawn]
        lengths = [thought.reasoning_tokens for thought in drawn]
        metrics["validation/length"] = float(np.mean(lengths))
        metrics["validation/truncated_frac"] = float(np.mean(cut))
    return Validation(metrics=metrics, samples=kept)


def _encoded(
    model: T1,
    collection: Collection,
    config: ValidationConfig,
    *,
    think: bool,
    task: str | None,
    check: Callable[[], None],
) -> tuple[Float[np.ndarray, "N D"], Float[np.ndarray, "C D"], list[list[Thought]]]:
    """Vectors of queries and documents, and the thoughts."""
    queries: list[np.ndarray] = []
    documents: list[np.ndarray] = []
    thoughts: list[list[Thought]] = []
    for some in _chunks(collection.queries):
        check()
        vectors, groups = model.encode_query(
            [query.text for query in some],
            query_ids=[query.id for query in some],
            task=task,
            think=think,
            max_thought_tokens=config.max_thought_tokens if think else None,
            sampling=SamplingParams(temperature=config.temperature),
            return_thoughts=True,
        )
        queries.append(vectors)
        thoughts += groups
    for some in _chunks(collection.documents):
        check()
        texts = [document.full_text for document in some]
        documents.append(
            model.encode_document(texts, document_ids=[document.id for document in some])
        )
    return np.concatenate(queries), np.concatenate(documents), thoughts


def _chunks(items: Sequence[_Item]) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), CHUNK):
        yield items[start : start + CHUNK]


def _scores(
    model: T1,
    collection: Collection,
    queries: Float[np.ndarray, "N D"],
    documents: Float[np.ndarray, "C D"],
) -> Mapping[str, float]:
    """nDCG@10 of each query."""
    ids = [query.id for query in collection.queries]
    names = [document.id for document in collection.documents]
    index = build_index("jax", names, documents, mesh=model.mesh_context.mesh)
    excluded_rows = [index.table.rows_of(collection.excluded.get(query_id, ())) for query_id in ids]
    run = index.search(queries, _DEPTH, excluded_rows).to_run(ids, index.ids)
    return score_run(
        run, collection.all_qrels, metrics=[MEASURE], excluded=collection.excluded
    ).per_query[MEASURE]


def _sample(
    name: str,
    collection: Collection,
    number: int,
    thoughts: Sequence[Thought],
    per_query: Mapping[str, float],
) -> dict[str, Any]:
    query = collection.queries[number]
    return {
        "of": "validation",
        "set": name,
        "query_id": query.id,
        "query": query.text,
        "thought": thoughts[0].text if thoughts else "",
        "finish_reason": thoughts[0].finish_reason.value if thoughts else "",
        "gold": list(collection.gold_titles(query.id)),
        "ndcg@10": per_query.get(query.id, 0.0),
    }
