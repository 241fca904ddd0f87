"""Train/validation/test splits without leakage: a query's group key alone decides its split."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from t1_jax.retrieval.collection import Collection, Document, Query

SPLIT_FRACTIONS = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Expected fraction of the group keys in each split."""


@dataclass(frozen=True, kw_only=True)
class LabeledQuery:
    """A query with its qrels.

    Attributes:
        query: the query.
        labels: document id -> relevance label.
        group_key: queries with the same key belong to the same split.
        excluded: ids of documents to remove from the query's ranking.
    """

    query: Query
    labels: Mapping[str, int]
    group_key: str
    excluded: frozenset[str] = frozenset()


def split_of(key: str) -> str:
    """The split of a group key, from its SHA-256; new data never moves existing keys."""
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    for split, fraction in SPLIT_FRACTIONS.items():
        if position < fraction:
            return split
        position -= fraction
    return next(reversed(SPLIT_FRACTIONS))


def group_keys(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """Connected components of a graph: node -> smallest node of its component (union-find)."""
    parent: dict[str, str] = {}

    def root_of(node: str) -> str:
        while (above := parent.setdefault(node, node)) != node:
            node = above
        return node

    for first, second in links:
        smaller, larger = sorted((root_of(first), root_of(second)))
        parent[larger] = smaller
    return {node: root_of(node) for node in parent}


def split_collection(
    name: str,
    documents: Iterable[Document],
    queries: Iterable[LabeledQuery],
    metadata: Mapping[str, str],
) -> dict[str, Collection]:
    """Split -> collection; all splits share the documents."""
    documents = tuple(documents)
    queries_of: dict[str, list[LabeledQuery]] = {split: [] for split in SPLIT_FRACTIONS}
    for labeled in queries:
        queries_of[split_of(labeled.group_key)].append(labeled)
    return {
        split: Collection(
            name=name,
            documents=documents,
            queries=tuple(labeled.query for labeled in split_queries),
            qrels={labeled.query.id: dict(labeled.labels) for labeled in split_queries},
            excluded={
                labeled.query.id: labeled.excluded for labeled in split_queries if labeled.excluded
            },
            metadata=metadata,
        )
        for split, split_queries in queries_of.items()
    }
