"""One way to export an index to any format or engine."""

from collections.abc import Callable
from pathlib import Path

from t1_jax.errors import ConfigError
from t1_jax.retrieval.export.engines import (
    check_table_name,
    write_lancedb,
    write_milvus,
    write_pgvector,
    write_qdrant,
)
from t1_jax.retrieval.export.files import write_faiss, write_parquet
from t1_jax.retrieval.export.rows import IndexRows

EXPORT_FORMATS: dict[str, Callable[..., None]] = {
    "parquet": write_parquet,
    "faiss": write_faiss,
    "lancedb": write_lancedb,
    "milvus": write_milvus,
    "pgvector": write_pgvector,
    "qdrant": write_qdrant,
}
"""Writers by name, each called with rows, output, name and overwrite."""


def export_index(
    folder: Path, to: str, output: str, *, name: str = "documents", overwrite: bool = False
) -> int:
    """Writes the documents and embeddings of an index to a file or an engine.

    Args:
        folder: the index.
        to: one of `EXPORT_FORMATS`.
        output: the file, or the folder or address of the engine.
        name: of the table or collection in an engine.
        overwrite: whether to replace a file, a table or a collection.

    Returns:
        The number of documents.

    Raises:
        ConfigError: unknown format, or a name that engines do not accept.
        UnsupportedError: a package is missing.
        CorruptIndexError, IndexVersionError: see each.
        T1Error: the target exists (without `overwrite`), cannot be reached, or cannot be written.
    """
    if to not in EXPORT_FORMATS:
        raise ConfigError(f"unknown format {to!r}", hint=f"use one of {', '.join(EXPORT_FORMATS)}")
    check_table_name(name)
    rows = IndexRows.read(folder)
    EXPORT_FORMATS[to](rows, output, name=name, overwrite=overwrite)
    return len(rows)
