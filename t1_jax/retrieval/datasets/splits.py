"""Splits without leakage: what must stay together shares a key, and the key alone decides."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from t1_jax.retrieval.collection import Collection, Document, Query

SHARES = {"train": 0.7, "validation": 0.1, "test": 0.2}
"""Expected share of the keys in each split."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A query with its grades, its excluded documents, and the key that decides its split."""

    query: Query
    grades: Mapping[str, int]
    key: str
    excluded: frozenset[str] = frozenset()


def split_of(key: str) -> str:
    """The split of a key, from its SHA-256: new data never moves what was there before."""
    position = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "big") / 2**64
    for split, share in SHARES.items():
        if position < share:
            return split
        position -= share
    return next(reversed(SHARES))


def group_keys(links: Iterable[tuple[str, str]]) -> dict[str, str]:
    """The smallest name of each group under every name in it; a link joins two names' groups."""
    leader: dict[str, str] = {}

    def leader_of(name: str) -> str:
        while (above := leader.setdefault(name, name)) != name:
            name = above
        return name

    for first, second in links:
        smaller, larger = sorted((leader_of(first), leader_of(second)))
        leader[larger] = smaller
    return {name: leader_of(name) for name in leader}


def split_collection(
    name: str,
    documents: Iterable[Document],
    judged: Iterable[Judged],
    metadata: Mapping[str, str],
) -> dict[str, Collection]:
    """One collection a split, over the same documents."""
    documents, judged = tuple(documents), tuple(judged)
    parts = {split: [item for item in judged if split_of(item.key) == split] for split in SHARES}
    return {
        split: Collection(
            name=name,
            documents=documents,
            queries=tuple(item.query for item in items),
            qrels={item.query.id: dict(item.grades) for item in items},
            excluded={item.query.id: item.excluded for item in items if item.excluded},
            metadata=metadata,
        )
        for split, items in parts.items()
    }
