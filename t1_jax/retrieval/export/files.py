"""Exports to files: Parquet, and FAISS."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np

from t1_jax.files import check_new_file, replacing, write_atomically
from t1_jax.retrieval.export.rows import IndexRows
from t1_jax.retrieval.index import faiss_module


def write_parquet(rows: IndexRows, output: str, *, name: str, overwrite: bool) -> None:
    """Writes the columns id, title, text and vector, and the manifest as metadata `t1_index`."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    vector = pa.list_(pa.float32(), rows.width)
    schema = pa.schema(
        [("id", pa.string()), ("title", pa.string()), ("text", pa.string()), ("vector", vector)],
        metadata={"t1_index": json.dumps(asdict(rows.manifest))},
    )
    check_new_file(Path(output), overwrite=overwrite)
    with (
        replacing(Path(output)) as scratch,
        pq.ParquetWriter(scratch, schema) as writer,
    ):
        for batch in rows.batches():
            flat = pa.array(batch.vectors.ravel(), pa.float32())
            vectors = pa.FixedSizeListArray.from_arrays(flat, rows.width)
            columns = [pa.array(x, pa.string()) for x in (batch.ids, batch.titles, batch.texts)]
            writer.write_batch(pa.record_batch([*columns, vectors], schema=schema))


def write_faiss(rows: IndexRows, output: str, *, name: str, overwrite: bool) -> None:
    """Writes a flat index of inner products, and `OUTPUT.ids.json`: the document id of each row.

    Raises:
        UnsupportedError: FAISS is not installed.
    """
    faiss = faiss_module()
    ids = Path(f"{output}.ids.json")
    for path in (Path(output), ids):
        check_new_file(path, overwrite=overwrite)
    flat = faiss.IndexFlatIP(rows.width)
    for batch in rows.batches():
        flat.add(np.ascontiguousarray(batch.vectors))
    with replacing(Path(output)) as scratch:
        faiss.write_index(flat, str(scratch))
    write_atomically(ids, json.dumps(list(rows.table.ids)))
