"""Combines the rankings of several retrievers."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import numpy as np

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval.ranking import rank_documents
from t1_jax.retrieval.trec import Run

FusionMethod: TypeAlias = Literal["convex", "rrf", "minmax", "zscore"]

_LEXICAL_WEIGHT, _DENSE_WEIGHT = 0.6, 0.4
"""What BM25 ranks first stays above all documents without a word of the query."""


@dataclass(frozen=True, kw_only=True)
class Fusion:
    """How rankings are combined: score = Σ over the rankings of weight · scaled score.

    Attributes:
        method: how the scores of a ranking are scaled. A document that a ranking lacks gets 0.
            "convex": BM25 score / max, and (s − min) / (max − min) of any other ranking, which are
            convex combinations as in arXiv:2210.11934; the first ranking must be BM25.
            "rrf": 1 / (60 + rank), reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR
            2009).
            "minmax": (s − min) / (max − min).
            "zscore": (s − mean) / standard deviation; a document that a ranking lacks gets the
            lowest scaled score of the ranking instead of 0.
        weights: a weight above 0 for each ranking. Default: 0.6 and 0.4 of "convex" for two
            rankings, and equal weights otherwise.

    Raises:
        ConfigError: an unknown method, or a weight that is not a number above 0.
    """

    method: FusionMethod = "convex"
    weights: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if self.method not in get_args(FusionMethod):
            raise ConfigError(
                f"unknown fusion {self.method!r}",
                hint=f"use one of {', '.join(get_args(FusionMethod))}",
            )
        if self.weights is not None and not all(0 < weight < np.inf for weight in self.weights):
            raise ConfigError(f"weights must be above 0, got {self.weights}")

    def weights_of(self, count: int) -> tuple[float, ...]:
        """The weights of `count` rankings.

        Raises:
            ConfigError: the number of weights differs.
        """
        if self.weights is None:
            is_default = self.method == "convex" and count == 2
            return (_LEXICAL_WEIGHT, _DENSE_WEIGHT) if is_default else (1.0,) * count
        if len(self.weights) != count:
            raise ConfigError(
                f"{len(self.weights)} weights for {count} rankings", hint="give one for each"
            )
        return self.weights


_RANK_CONSTANT = 60
"""Of reciprocal rank fusion; 60 as in the paper, and in every search engine that offers it."""


def fuse_runs(runs: Sequence[Run], k: int, fusion: Fusion | None = None) -> Run:
    """The top `k` documents of each query by the combined score of several runs.

    The queries are those of the last run, and then those that only others have. On files that the
    model was not trained on, the default is better than reciprocal rank fusion (docs/search.md).

    Args:
        runs: at least two; BM25 comes first.
        k: documents per query.
        fusion: how to combine them.

    Raises:
        ConfigError: the number of weights differs from that of the runs.
        DataError: fewer than two runs.
    """
    fusion = fusion or Fusion()
    if len(runs) < 2:
        raise DataError(f"fusion needs at least two rankings, got {len(runs)}")
    weights = fusion.weights_of(len(runs))
    queries = dict.fromkeys(query for run in reversed(runs) for query in run)
    return {
        query: _fused([run.get(query, {}) for run in runs], weights, fusion.method, k)
        for query in queries
    }


def _fused(
    rankings: Sequence[Mapping[str, float]],
    weights: Sequence[float],
    method: FusionMethod,
    k: int,
) -> dict[str, float]:
    names = list(dict.fromkeys(name for ranking in rankings for name in ranking))
    scores = np.zeros(len(names))
    for number, (ranking, weight) in enumerate(zip(rankings, weights, strict=True)):
        if not ranking:
            continue
        values = np.array(list(ranking.values()), np.float64)
        scaled, absent = _scaled(list(ranking), values, method, is_lexical=number == 0)
        of_name = dict(zip(ranking, scaled.tolist(), strict=True))
        scores += weight * np.array([of_name.get(name, absent) for name in names])
    order: list[int] = rank_documents(scores, names, k).tolist()
    return {names[row]: float(scores[row]) for row in order}


def _scaled(
    names: list[str], values: np.ndarray, method: FusionMethod, *, is_lexical: bool
) -> tuple[np.ndarray, float]:
    """Scaled scores of a ranking, and the score of a document that it lacks."""
    if method == "rrf":
        ranks = np.empty(len(names))
        ranks[rank_documents(values, names, len(names))] = np.arange(1, len(names) + 1)
        return 1 / (_RANK_CONSTANT + ranks), 0.0
    if method == "zscore":
        deviation = values.std()
        scaled = (values - values.mean()) / deviation if deviation > 0 else np.zeros(len(names))
        return scaled, float(scaled.min())
    low = 0.0 if method == "convex" and is_lexical else values.min()
    span = values.max() - low
    return ((values - low) / span if span > 0 else np.ones(len(names))), 0.0
