"""The rows with titles of documents: thoughts over candidates, and thoughts that are titles."""

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
class TitleThinker(Protocol):
    """Thinks over titles, or in titles; see `T1`."""

    @property
    def tokenizer(self) -> T1Tokenizer:
        """Tokenizes titles."""
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
        model: the model of `queries`; a `TitleThinker`.
        queries: queries without candidates.
        index: embeddings of the documents.
        k: candidates of each query.

    Raises:
        ConfigError: the model's prompts show no candidates.
    """
    model = _title_thinker(model, "candidates=0")
    model.preset.require_candidates()
    first = queries.nothink
    start = time.perf_counter()
    collection = queries.collection
    titles = CandidateTitles(model.tokenizer, collection.documents_by_id)
    excluded = [index.table.rows_of(collection.excluded.get(name, ())) for name in queries.ids]
    shown = nearest_candidates(titles, index, first.vectors, k, excluded)
    seconds = first.seconds + time.perf_counter() - start
    over = queries.over(shown)
    for control in OVER_CANDIDATES.values():
        embedded = control.embed(over)
        yield control, replace(embedded, seconds=embedded.seconds + seconds)


def constrained_to_titles(model: object, queries: ControlQueries) -> QueryVectors:
    """Each query after a thought that is the title of a document.

    Args:
        model: the model of `queries`; a `TitleThinker`.
        queries: the queries, with the collection whose titles are the choices.

    Raises:
        ConfigError: the model has no tokenizer, or no document has a title.
    """
    start = time.perf_counter()
    documents = queries.collection.documents_by_id
    tokenizer = _title_thinker(model, "constrained=false").tokenizer
    choices = CandidateTitles(tokenizer, documents).choices(documents)
    seconds = time.perf_counter() - start
    own = queries.constrained(choices).own
    return replace(own, seconds=own.seconds + seconds)


def _title_thinker(model: object, hint: str) -> TitleThinker:
    if not isinstance(model, TitleThinker):
        raise ConfigError(
            f"{type(model).__name__} has no tokenizer and no prompts for titles",
            hint=f"set {hint}",
        )
    return model
