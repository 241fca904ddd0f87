"""Verified rankings: the model says of each of the nearest documents how likely it is the answer.

The title of a document is what a thought about it would say. So the log-probability of the titles
as thoughts, given the query, reorders the documents that the vector found. The log-probability
without a query is subtracted: it says how common the words are, and how thoughts begin.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError
from t1_jax.retrieval import Document, Query, Run, rank_documents
from t1_jax.retriever.candidates import thought_about

NO_QUERY = "?"
"""In the place of the query where titles are scored without one; a prompt needs some text."""
_TITLES = 64
"""Titles that are scored without a query in one row."""
_GAP = 1e-6
"""Between the lowest verified score and the highest other one; more than float32 rounds away."""


@dataclass(frozen=True, kw_only=True)
class Verification:
    """How a ranking is verified.

    score = cosine + weight · (log p(title | query) − log p(title)), where log p is the mean
    log-probability of the title's tokens in nats: pointwise mutual information (arXiv:1510.03055).

    Attributes:
        k: documents that are verified, the nearest ones.
        weight: of the mutual information. The default was chosen on the validation queries of
            `cwe` and `ruff`, see docs/search.md.

    Raises:
        ConfigError: `k` is below 2, or `weight` is not positive.
    """

    k: int = 16
    weight: float = 0.02

    def __post_init__(self) -> None:
        if self.k < 2:
            raise ConfigError(
                f"at least 2 documents are verified, got verify={self.k}",
                hint="set it to 16, or leave it out",
            )
        if not self.weight > 0:
            raise ConfigError(f"the weight of a verification must be positive, got {self.weight}")

    def titles(
        self, scores: Mapping[str, float], documents: Mapping[str, Document]
    ) -> dict[str, str]:
        """The documents of a ranking that are verified, best first, with their titles.

        Args:
            scores: cosine of each document.
            documents: document id -> document, at least those that are verified.

        Raises:
            ConfigError: a document is not there, so it has no title.
        """
        names = list(scores)
        order = rank_documents(list(scores.values()), names, min(self.k, len(names)))
        chosen = [names[row] for row in order.tolist()]
        if missing := next((name for name in chosen if name not in documents), None):
            raise ConfigError(
                f"the document {missing!r} has no text here, and verifying needs its title",
                hint="search an index that stores its documents, or leave verify out",
            )
        return {name: thought_about(documents[name]) for name in chosen}

    def reorder(
        self, scores: Mapping[str, float], information: Mapping[str, float]
    ) -> dict[str, float]:
        """The ranking with its first documents reordered, best first.

        They stay above all others: their scores are raised together, so far as that is needed.

        Args:
            scores: cosine of each document.
            information: mutual information of query and title of each verified document.
        """
        verified = {name: scores[name] + self.weight * information[name] for name in information}
        rest = {name: score for name, score in scores.items() if name not in information}
        if rest:
            highest, lowest = max(rest.values()), min(verified.values())
            if lowest <= highest:
                shift = highest - lowest + _GAP
                verified = {name: score + shift for name, score in verified.items()}
        scored = verified | rest
        names = list(scored)
        order = rank_documents(list(scored.values()), names, len(names))
        return {names[row]: scored[names[row]] for row in order.tolist()}


@runtime_checkable
class ThoughtScorer(Protocol):
    """Says how likely given thoughts are; see `T1.score_thoughts`."""

    def score_thoughts(
        self,
        texts: Sequence[str],
        thoughts: Sequence[Sequence[str]],
        *,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> list[Float[np.ndarray, " _"]]:
        """Mean log-probability of each thought."""
        ...


def verify_run(
    model: ThoughtScorer,
    run: Run,
    queries: Sequence[Query],
    documents: Mapping[str, Document],
    verification: Verification,
    *,
    task: str | None = None,
    instruction: str | None = None,
    show_progress_bar: bool = False,
) -> Run:
    """A run of cosines with the first documents of each query reordered.

    Args:
        model: scores the titles.
        run: query id -> document id -> cosine.
        queries: the queries of the run.
        documents: document id -> document, at least those that are verified.
        verification: how many, and with which weight.
        task: name of an instruction in the preset.
        instruction: text of an instruction.
        show_progress_bar: whether to show a bar with the time left.

    Raises:
        ConfigError: as `Verification.titles`, or as `T1.score_thoughts`.
    """
    groups = [verification.titles(run[query.id], documents) for query in queries]
    titles = list(dict.fromkeys(title for group in groups for title in group.values()))
    parts = [titles[start : start + _TITLES] for start in range(0, len(titles), _TITLES)]
    prior = model.score_thoughts([NO_QUERY] * len(parts), parts, task=task, instruction=instruction)
    prior_of = dict(zip(titles, (value for part in prior for value in part.tolist()), strict=True))
    scores = model.score_thoughts(
        [query.text for query in queries],
        [list(group.values()) for group in groups],
        task=task,
        instruction=instruction,
        query_ids=[query.id for query in queries],
        show_progress_bar=show_progress_bar,
    )
    run_of: Run = {}
    for query, group, log_probs in zip(queries, groups, scores, strict=True):
        information = {
            name: log_prob - prior_of[title]
            for (name, title), log_prob in zip(group.items(), log_probs.tolist(), strict=True)
        }
        run_of[query.id] = verification.reorder(run[query.id], information)
    return run_of
