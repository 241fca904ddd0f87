"""Two indexes side by side: settings, documents, embeddings, and what a search finds."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from t1_jax.retrieval.index.build import load_index
from t1_jax.retrieval.index.protocol import Index
from t1_jax.retrieval.index.store import Manifest, index_documents, read_manifest

_SAMPLE = 256
_COMPARED = 10_000


@dataclass(frozen=True, kw_only=True)
class IndexDiff:
    """What differs between two indexes, `a` and `b`.

    Attributes:
        settings: fields of the manifests that differ, as pairs.
        only_a: ids that only the first has.
        only_b: ids that only the second has.
        changed: ids whose title or text differs.
        same: number of the other ids.
        lowest_cosine: between the embeddings of a document whose text is the same in both; None
            where none are comparable.
        mean_cosine: likewise.
        overlap_at_10: mean part of the top 10 that both find for a sample of documents that both
            have, among all documents of each.
    """

    settings: Mapping[str, tuple[Any, Any]]
    only_a: Sequence[str]
    only_b: Sequence[str]
    changed: Sequence[str]
    same: int
    lowest_cosine: float | None
    mean_cosine: float | None
    overlap_at_10: float | None

    @property
    def is_empty(self) -> bool:
        """Whether both have the same settings, documents and embeddings, up to rounding."""
        documents = self.only_a or self.only_b or self.changed
        return not (self.settings or documents or (self.lowest_cosine or 1.0) < 0.9999)


def diff_indexes(a: Path, b: Path) -> IndexDiff:
    """Compares two indexes; at most 10,000 embeddings and 256 searches.

    Raises:
        CorruptIndexError, IndexVersionError: see each.
    """
    manifests = read_manifest(a), read_manifest(b)
    first, second = (
        load_index(folder, manifest.fingerprint)
        for folder, manifest in zip((a, b), manifests, strict=True)
    )
    texts_a, texts_b = (
        {document.id: (document.title, document.text) for document in index_documents(folder)}
        for folder in (a, b)
    )
    common = [identifier for identifier in first.ids if identifier in second.table.row_of]
    changed = [
        identifier for identifier in common if texts_a.get(identifier) != texts_b.get(identifier)
    ]
    lost = set(changed)
    same = [identifier for identifier in common if identifier not in lost]
    cosines = _cosines(first, second, same)
    return IndexDiff(
        settings=_settings(*manifests),
        only_a=[identifier for identifier in first.ids if identifier not in second.table.row_of],
        only_b=[identifier for identifier in second.ids if identifier not in first.table.row_of],
        changed=changed,
        same=len(same),
        lowest_cosine=None if cosines is None else float(cosines.min()),
        mean_cosine=None if cosines is None else float(cosines.mean()),
        overlap_at_10=_overlap(first, second, same),
    )


def _settings(a: Manifest, b: Manifest) -> dict[str, tuple[Any, Any]]:
    """Fields that differ, with those of mappings by their own names."""
    flat_a, flat_b = _flat(asdict(a)), _flat(asdict(b))
    names = [*flat_a, *(name for name in flat_b if name not in flat_a)]
    return {
        name: (flat_a.get(name), flat_b.get(name))
        for name in names
        if flat_a.get(name) != flat_b.get(name)
    }


def _flat(fields: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name in ("kind", "count", "width", "precision", "truncated_from", "recall_at_10"):
        flat[name] = fields[name]
    for group in ("fingerprint", "settings", "encoding"):
        flat |= {f"{group}.{name}": value for name, value in fields[group].items()}
    return flat


def _sampled(ids: Sequence[str], most: int) -> list[str]:
    chosen = np.sort(np.random.default_rng(0).permutation(len(ids))[:most])
    return [ids[int(place)] for place in chosen]


def _cosines(a: Index, b: Index, ids: Sequence[str]) -> np.ndarray | None:
    """Cosines of both embeddings of each document; None without any, or with other dimensions."""
    if not ids or a.table.width != b.table.width:
        return None
    chosen = _sampled(ids, _COMPARED)
    first, second = (table.take(np.array(table.rows_of(chosen))) for table in (a.table, b.table))
    return (first * second).sum(axis=1)


def _overlap(a: Index, b: Index, ids: Sequence[str]) -> float | None:
    """Part of the top 10 that both indexes find, each with its own embeddings as queries."""
    if len(ids) < 2:
        return None
    chosen = _sampled(ids, _SAMPLE)
    found = []
    for index in (a, b):
        rows = index.table.rows_of(chosen)
        result = index.search(index.table.take(np.array(rows)), 10, [[row] for row in rows])
        found.append(
            [{index.ids[row] for row in query if row >= 0} for query in result.rows.tolist()]
        )
    parts = [len(x & y) / max(len(x), len(y)) for x, y in zip(*found, strict=True)]
    return float(np.mean(parts))
