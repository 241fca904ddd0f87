"""Validation during training: retrieval of held-out queries with the current weights."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
from jaxtyping import Float

from t1_jax.generate import FinishReason, SamplingParams, Thought
from t1_jax.retrieval import Collection, Index, build_index, score_run
from t1_jax.retriever import T1, CandidateTitles, nearest_candidates
from t1_jax.train.config import ValidationConfig
from t1_jax.train.infra import GracefulStop

METRIC = "nDCG@10"
CHUNK = 256
"""Texts between two checks of `GracefulStop.check_together`."""

_DEPTH = 100
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class Validation:
    """Scores of one set of weights.

    Attributes:
        metrics: `validation/<collection>/ndcg@10`, their mean, and of the thoughts the mean length
            in tokens and the fraction that is truncated.
        samples: some queries of each collection with their thought and its score.
    """

    metrics: Mapping[str, float]
    samples: list[dict[str, Any]]


MEAN_SCORE = "validation/ndcg@10"
"""The mean nDCG@10 of all collections."""


def score_names(collections: Iterable[str]) -> tuple[str, ...]:
    """Names of the scores in `Validation.metrics`: the mean, and one of each collection."""
    return (MEAN_SCORE, *(f"validation/{name}/ndcg@10" for name in collections))


def validate(
    model: T1,
    collections: Mapping[str, Collection],
    config: ValidationConfig,
    *,
    think: bool,
    samples: int,
    candidates: int = 0,
    stop: GracefulStop | None = None,
) -> Validation:
    """Ranks all documents of each collection for its queries.

    Prompts show the titles of so many `candidates`, found without a thought. `samples` queries of
    each collection are returned with their thoughts. `stop` is checked between chunks of texts, on
    all processes together.

    Raises:
        Interrupted: the run was asked to stop; there is no partial score.
    """
    metrics: dict[str, float] = {}
    sampled: list[dict[str, Any]] = []
    all_thoughts: list[Thought] = []
    for name, collection in collections.items():
        index = _index(model, collection, stop)
        titles = None
        if candidates:
            nothink, _ = _encode(model, collection, config, think=False, stop=stop)
            titles = _titles(model, collection, index, nothink, candidates)
        queries, thoughts = _encode(
            model, collection, config, think=think, titles=titles, stop=stop
        )
        per_query = _scores(collection, index, queries)
        metrics[f"validation/{name}/ndcg@10"] = float(np.mean(list(per_query.values())))
        all_thoughts += [thought for group in thoughts for thought in group]
        sampled += [
            _sample(name, collection, number, thoughts[number], per_query)
            for number in range(min(len(thoughts), samples))
        ]
    metrics[MEAN_SCORE] = float(np.mean(list(metrics.values())))
    if all_thoughts:
        truncated = [thought.finish_reason is FinishReason.LENGTH for thought in all_thoughts]
        lengths = [thought.reasoning_tokens for thought in all_thoughts]
        metrics["validation/length"] = float(np.mean(lengths))
        metrics["validation/truncated_frac"] = float(np.mean(truncated))
    return Validation(metrics=metrics, samples=sampled)


def _index(model: T1, collection: Collection, stop: GracefulStop | None) -> Index:
    """The documents of a collection."""
    vectors = [
        model.encode_document(
            [document.full_text for document in chunk],
            document_ids=[document.id for document in chunk],
        )
        for chunk in _chunks(collection.documents, stop)
    ]
    ids = [document.id for document in collection.documents]
    return build_index("jax", ids, np.concatenate(vectors), mesh=model.mesh_context.mesh)


def _titles(
    model: T1,
    collection: Collection,
    index: Index,
    vectors: Float[np.ndarray, "N D"],
    k: int,
) -> list[list[str]]:
    """Titles of the nearest documents of each query, best first."""
    titles = CandidateTitles(model.tokenizer, collection.documents_by_id)
    return nearest_candidates(titles, index, vectors, k, _excluded_rows(collection, index))


def _encode(
    model: T1,
    collection: Collection,
    config: ValidationConfig,
    *,
    think: bool,
    titles: Sequence[Sequence[str]] | None = None,
    stop: GracefulStop | None,
) -> tuple[Float[np.ndarray, "N D"], list[list[Thought]]]:
    """Embeddings of the queries, and the thoughts."""
    queries: list[np.ndarray] = []
    thoughts: list[list[Thought]] = []
    numbers = range(len(collection.queries))
    for chunk in _chunks(numbers, stop):
        embeddings, groups = model.encode_query(
            [collection.queries[number].text for number in chunk],
            query_ids=[collection.queries[number].id for number in chunk],
            task=model.known_task(collection.task),
            think=think,
            candidates=None if titles is None else [titles[number] for number in chunk],
            max_thought_tokens=config.max_thought_tokens if think else None,
            sampling=SamplingParams(temperature=config.temperature),
            return_thoughts=True,
        )
        queries.append(embeddings)
        thoughts += groups
    return np.concatenate(queries), thoughts


def _chunks(items: Sequence[_Item], stop: GracefulStop | None) -> Iterator[Sequence[_Item]]:
    for start in range(0, len(items), CHUNK):
        if stop is not None:
            stop.check_together()
        yield items[start : start + CHUNK]


def _scores(
    collection: Collection, index: Index, queries: Float[np.ndarray, "N D"]
) -> Mapping[str, float]:
    """nDCG@10 of each query."""
    ids = [query.id for query in collection.queries]
    excluded = _excluded_rows(collection, index)
    run = index.search(queries, _DEPTH, excluded).to_run(ids, index.ids)
    return score_run(
        run, collection.all_qrels, metrics=[METRIC], excluded=collection.excluded
    ).per_query[METRIC]


def _excluded_rows(collection: Collection, index: Index) -> list[Sequence[int]]:
    return [
        index.table.rows_of(collection.excluded.get(query.id, ())) for query in collection.queries
    ]


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
