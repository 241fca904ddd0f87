"""Lexical baselines, each a row of the table; see `Baseline`."""

from dataclasses import dataclass

from t1_jax.retrieval import BM25, BM25QS, Collection, Run


@dataclass(frozen=True, kw_only=True)
class BM25Baseline:
    """BM25 with the settings of `t1_jax.retrieval.BM25`."""

    name: str = "bm25"
    label: str = "BM25"

    def retrieve(self, collection: Collection, k: int) -> Run:
        """See `Baseline.retrieve`."""
        return BM25.build(collection).search(collection.queries, k, collection.excluded)


@dataclass(frozen=True, kw_only=True)
class BM25QSBaseline:
    """BM25 as BRIGHT has it; see `t1_jax.retrieval.BM25QS`."""

    name: str = "bm25qs"
    label: str = "BM25 (BRIGHT)"

    def retrieve(self, collection: Collection, k: int) -> Run:
        """See `Baseline.retrieve`."""
        return BM25QS.build(collection).search(collection.queries, k, collection.excluded)
