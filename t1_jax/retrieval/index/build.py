"""Indexes by the name of their back end: build one, or load one from a folder."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from t1_jax.errors import ConfigError
from t1_jax.retrieval.index.embedding_table import EmbeddingTable
from t1_jax.retrieval.index.numpy_index import NumpyIndex
from t1_jax.retrieval.index.protocol import Index
from t1_jax.retrieval.index.scann_index import ScannIndex, ScannSettings, scann_ops
from t1_jax.retrieval.index.store import Fingerprint, read_index

if TYPE_CHECKING:
    from jax.sharding import Mesh

KINDS = ("numpy", "jax", "scann")
"""numpy: exact, the reference. device: exact, on JAX devices. scann: approximate."""


def require_backend(kind: str) -> None:
    """Refuses a back end that could not be built on this machine.

    Raises:
        ConfigError: no such kind.
        UnsupportedError: ScaNN is not available.
    """
    _check_kind(kind)
    if kind == "scann":
        scann_ops()


def build_index(
    kind: str,
    ids: Sequence[str],
    vectors: np.ndarray,
    *,
    mesh: "Mesh | None" = None,
    scann: ScannSettings | None = None,
    sample_queries: np.ndarray | None = None,
) -> Index:
    """Builds an index.

    Args:
        kind: one of `KINDS`.
        ids: of the documents.
        vectors: [C, E], one row per id, any float type; they need not have unit length.
        mesh: for "device", where its rows are spread; without one, over all devices.
        scann: settings for "scann".
        sample_queries: [B, E], for "scann", what its recall is measured with.

    Raises:
        ConfigError: no such kind.
        DataError: ids that repeat, or vectors that are zero, not finite, or not [C, E].
        UnsupportedError: ScaNN is not available on this machine.
        IndexContractError: ScaNN's recall lies below its minimum.
    """
    _check_kind(kind)
    table = EmbeddingTable.of(ids, vectors)
    if kind == "scann":
        return ScannIndex.build(table, scann, sample_queries=sample_queries)
    return _exact_index(kind, table, mesh)


def load_index(
    folder: Path,
    fingerprint: Fingerprint,
    *,
    kind: str | None = None,
    mesh: "Mesh | None" = None,
) -> Index:
    """Loads an index that one of the back ends saved.

    Args:
        folder: the index.
        fingerprint: of the encoder, prompt and collection that it is to be used with.
        kind: search with this exact back end instead of the one that wrote it.
        mesh: for "jax", as in `build_index`.

    Raises:
        ForeignIndexError: the index belongs to another encoder, prompt or collection.
        CorruptIndexError, OldIndexError, NewIndexError: it cannot be read.
        ConfigError: `kind` is unknown, or "scann" for an index that has no ScaNN files.
    """
    manifest, table = read_index(folder, fingerprint)
    kind = kind or manifest.kind
    _check_kind(kind)
    if kind != "scann":
        return _exact_index(kind, table, mesh)
    if manifest.kind != "scann":
        raise ConfigError(
            f"{folder} was built for {manifest.kind!r} and cannot be searched with ScaNN",
            hint="build it again with the kind 'scann'",
        )
    return ScannIndex.load(Path(folder), manifest, table)


def _exact_index(kind: str, table: EmbeddingTable, mesh: "Mesh | None") -> Index:
    if kind == "numpy":
        return NumpyIndex(table)
    from t1_jax.retrieval.index.jax_index import JaxIndex

    return JaxIndex(table, mesh=mesh)


def _check_kind(kind: str) -> None:
    if kind not in KINDS:
        raise ConfigError(f"unknown index {kind!r}", hint=f"use one of {', '.join(KINDS)}")
