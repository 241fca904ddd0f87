"""`t1 index export`: copies an index to a file or to an engine that people run."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from t1_jax.cli import options
from t1_jax.cli.output import Output
from t1_jax.progress import counted


def export_index(
    folder: Annotated[Path, typer.Argument(help="An index, or a folder that `t1 encode` wrote.")],
    to: Annotated[
        Literal["parquet", "faiss", "lancedb", "milvus", "pgvector", "qdrant"],
        typer.Option("--to", help="Format or engine. All but parquet need an extra."),
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", help="File to write, or folder or address of the engine."),
    ],
    name: Annotated[
        str, typer.Option("--name", help="Table or collection in the engine.")
    ] = "documents",
    overwrite: options.Overwrite = False,
    as_json: options.AsJson = False,
) -> None:
    """Write ids, titles, texts and embeddings of an index to a file or an engine.

    Embeddings have unit length: rank by inner product or cosine.

    Example: t1 index export runs/cwe-index --to parquet --output cwe.parquet
    """
    from t1_jax.retrieval import export

    out = Output(as_json)
    count = export.export_index(folder, to, output, name=name, overwrite=overwrite)
    out.print(f"{output}: {counted(count, 'documents')}")
    out.result(index=folder, to=to, output=output, count=count)
