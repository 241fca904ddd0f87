"""Combines the rankings of several retrievers."""

from collections.abc import Mapping, Sequence

from t1_jax.retrieval.ranking import rank_documents
from t1_jax.retrieval.trec import Run

_RANK_CONSTANT = 60


def reciprocal_rank_fusion(runs: Sequence[Run], k: int) -> Run:
    """The top `k` of several runs: score = Σ 1 / (60 + rank), Cormack et al., SIGIR 2009.

    A document that a run lacks gets nothing from it. Queries are those of the first run.
    """
    return {query: _fused([run.get(query, {}) for run in runs], k) for query in runs[0]}


def _fused(rankings: Sequence[Mapping[str, float]], k: int) -> dict[str, float]:
    scores: dict[str, float] = {}
    for ranking in rankings:
        names = list(ranking)
        order = rank_documents(list(ranking.values()), names, len(names))
        for rank, position in enumerate(order.tolist(), 1):
            name = names[position]
            scores[name] = scores.get(name, 0.0) + 1 / (_RANK_CONSTANT + rank)
    names = list(scores)
    order = rank_documents(list(scores.values()), names, k)
    return {names[i]: scores[names[i]] for i in order.tolist()}
