"""Combines a lexical and a dense ranking."""

from collections.abc import Mapping

from t1_jax.retrieval.ranking import rank_documents
from t1_jax.retrieval.trec import Run

_LEXICAL_WEIGHT, _DENSE_WEIGHT = 0.6, 0.4
"""What BM25 ranks first stays above all documents without a word of the query."""


def fuse_runs(lexical: Run, dense: Run, k: int) -> Run:
    """The top `k` by the convex combination of two scores, arXiv:2210.11934.

    score = 0.6 · bm25 / max(bm25) + 0.4 · (cosine − min(cosine)) / (max(cosine) − min(cosine)),
    with the extremes of each ranking. A document that a ranking lacks gets 0 for it. On files that
    the model was not trained on this is better than reciprocal rank fusion (docs/search.md).

    Args:
        lexical: BM25 scores, at least 0.
        dense: cosines; its queries are those of the result.
        k: documents per query.
    """
    return {query: _fused(lexical.get(query, {}), dense[query], k) for query in dense}


def _fused(lexical: Mapping[str, float], dense: Mapping[str, float], k: int) -> dict[str, float]:
    scores: dict[str, float] = {}
    lowest = min(dense.values(), default=0.0)
    for ranking, low, weight in ((lexical, 0.0, _LEXICAL_WEIGHT), (dense, lowest, _DENSE_WEIGHT)):
        span = max(ranking.values(), default=0.0) - low
        for name, value in ranking.items():
            share = (value - low) / span if span > 0 else 1.0
            scores[name] = scores.get(name, 0.0) + weight * share
    names = list(scores)
    order = rank_documents(list(scores.values()), names, k)
    return {names[i]: scores[names[i]] for i in order.tolist()}
