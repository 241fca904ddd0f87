"""The rows of thinking over candidates: titles of the documents that a query finds by itself."""

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Protocol, runtime_checkable

from t1_jax.errors import ConfigError
from t1_jax.evaluate.controls import OVER_CANDIDATES, Control, ControlQueries, QueryVectors
from t1_jax.retrieval import Index
from t1_jax.retriever import CandidateTitles, nearest_candidates
from t1_jax.text import PromptPreset, T1Tokenizer


@runtime_checkable
class CandidateThinker(Protocol):
    """Thinks over candidates; see `T1`."""

    @property
    def tokenizer(self) -> T1Tokenizer:
        """Truncates titles."""
        ...

    @property
    def preset(self) -> PromptPreset:
        """Prompts that may show candidates."""
        ...


def over_candidates(
    model: object, queries: ControlQueries, index: Index, k: int
) -> Iterator[tuple[Control, QueryVectors]]:
    """The query embeddings of each row, in the order of `OVER_CANDIDATES`.

    The first pass embeds the queries without a thought; its time is part of each row's.

    Args:
        model: the model of `queries`; a `CandidateThinker`.
        queries: queries without candidates.
        index: embeddings of the documents.
        k: candidates of each query.

    Raises:
        ConfigError: the model's prompts show no candidates.
    """
    if not isinstance(model, CandidateThinker):
        raise ConfigError(
            f"{type(model).__name__} has no prompts that could show candidates",
            hint="set candidates=0",
        )
    model.preset.require_candidates()
    first = queries.nothink
    start = time.perf_counter()
    collection = queries.collection
    titles = CandidateTitles(model.tokenizer, collection.documents_by_id)
    excluded = [index.table.rows_of(collection.excluded.get(name, ())) for name in queries.ids]
    names = nearest_candidates(titles, index, first.vectors, k, excluded)
    seconds = first.seconds + time.perf_counter() - start
    over = queries.over([[titles[name] for name in group] for group in names])
    for control in OVER_CANDIDATES.values():
        embedded = control.embed(over)
        yield control, replace(embedded, seconds=embedded.seconds + seconds)
