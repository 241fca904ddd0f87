"""Builds an index, or loads one from a folder, with the back end of a given name."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from t1_jax.errors import ConfigError
from t1_jax.retrieval.index.approximate import ApproximateIndex
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.faiss_index import FaissIndex, FaissSettings, faiss_module
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.retrieval.index.protocol import Index
from t1_jax.retrieval.index.scann_index import ScannIndex, ScannSettings, scann_ops
from t1_jax.retrieval.index.store import Fingerprint, read_index

if TYPE_CHECKING:
    from jax.sharding import Mesh

INDEX_KINDS = ("numpy", "jax", "scann", "faiss")
"""numpy: exact, the reference. jax: exact, on JAX devices. scann: approximate. faiss: both."""

_APPROXIMATE: dict[str, type[ApproximateIndex]] = {"scann": ScannIndex, "faiss": FaissIndex}


def settings_type(kind: str) -> type[Any] | None:
    """The settings of an approximate back end; None for an exact one."""
    return _APPROXIMATE[kind].settings_type if kind in _APPROXIMATE else None


def require_backend(kind: str) -> None:
    """Raises if a back end is unavailable on this machine.

    Raises:
        ConfigError: unknown kind.
        UnsupportedError: ScaNN or FAISS is not installed.
    """
    _check_kind(kind)
    if kind == "scann":
        scann_ops()
    if kind == "faiss":
        faiss_module()


def build_index(
    kind: str,
    ids: Sequence[str],
    vectors: np.ndarray,
    *,
    mesh: "Mesh | None" = None,
    scann: ScannSettings | None = None,
    faiss: FaissSettings | None = None,
    sample_queries: np.ndarray | None = None,
    reject_low_recall: bool = True,
) -> Index:
    """Builds an index.

    Args:
        kind: one of `INDEX_KINDS`.
        ids: document ids.
        vectors: embeddings [C, E] of any float type, one row per id; need not be normalized.
        mesh: devices over which "jax" shards the rows; None means all devices.
        scann: settings of "scann".
        faiss: settings of "faiss".
        sample_queries: query embeddings [B, E] with which the recall of "scann" and "faiss" is
            measured.
        reject_low_recall: whether a recall below the minimum of the settings is an error.

    Raises:
        ConfigError: unknown kind, or settings that do not fit the vectors.
        DataError: duplicate ids, or vectors that are zero, not finite, or not [C, E].
        UnsupportedError: ScaNN or FAISS is not installed.
        IndexContractError: the measured recall is below its minimum.
    """
    _check_kind(kind)
    table = EmbeddingTable.from_vectors(ids, vectors)
    return build_from_table(
        kind,
        table,
        mesh=mesh,
        settings={"scann": scann, "faiss": faiss}.get(kind),
        sample_queries=sample_queries,
        reject_low_recall=reject_low_recall,
    )


def build_from_table(
    kind: str,
    table: EmbeddingTable,
    *,
    mesh: "Mesh | None" = None,
    settings: ScannSettings | FaissSettings | None = None,
    sample_queries: np.ndarray | None = None,
    reject_low_recall: bool = True,
) -> Index:
    """`build_index` of a table, which keeps its number format and may be a memory map.

    `settings` are those of an approximate back end.
    """
    _check_kind(kind)
    if kind not in _APPROXIMATE:
        return _exact_index(kind, table, mesh)
    return _APPROXIMATE[kind].build(
        table, settings, sample_queries=sample_queries, reject_low_recall=reject_low_recall
    )


def load_index(
    folder: Path, fingerprint: Fingerprint, *, kind: str | None = None, mesh: "Mesh | None" = None
) -> Index:
    """Loads a saved index with the expected fingerprint of encoder, prompt and collection.

    `kind` is the back end to search with, by default the one that wrote the index; `mesh` is as in
    `build_index`.

    Raises:
        IndexMismatchError: the index belongs to another encoder, prompt or collection.
        CorruptIndexError: a file is missing or damaged.
        IndexVersionError: the index has an unknown format version.
        ConfigError: unknown `kind`, or an approximate one that did not write the index.
    """
    manifest, table = read_index(folder, fingerprint)
    kind = kind or manifest.kind
    _check_kind(kind)
    if kind not in _APPROXIMATE:
        return _exact_index(kind, table, mesh)
    if manifest.kind != kind:
        raise ConfigError(
            f"{folder} was built for {manifest.kind!r} and cannot be searched with {kind!r}",
            hint=f"build it again with the kind {kind!r}",
        )
    return _APPROXIMATE[kind].load(Path(folder), manifest, table)


def _exact_index(kind: str, table: EmbeddingTable, mesh: "Mesh | None") -> Index:
    if kind == "numpy":
        return NumpyIndex(table)
    from t1_jax.retrieval.index.jax_index import JaxIndex

    return JaxIndex(table, mesh=mesh)


def _check_kind(kind: str) -> None:
    if kind not in INDEX_KINDS:
        raise ConfigError(f"unknown index {kind!r}", hint=f"use one of {', '.join(INDEX_KINDS)}")
