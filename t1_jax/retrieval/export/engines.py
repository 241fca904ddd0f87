"""Exports to vector databases; each needs the extra of its name.

Every table has the columns id, title, text and vector. Vectors have unit length, so that the inner
product is the cosine.
"""

import importlib
import re
import uuid
from collections.abc import Iterator
from typing import Any

from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.retrieval.export.rows import IndexRows

_MILVUS_BYTES = 65_535
"""The longest string that Milvus stores."""


def write_lancedb(rows: IndexRows, output: str, *, name: str, overwrite: bool) -> None:
    """Writes a table of a LanceDB database, a folder or a URI.

    Raises:
        UnsupportedError: lancedb is not installed.
        T1Error: the table exists (without `overwrite`).
    """
    pa = importlib.import_module("pyarrow")
    lancedb = _module("lancedb", "lancedb")
    schema = pa.schema(
        [
            ("id", pa.string()),
            ("title", pa.string()),
            ("text", pa.string()),
            ("vector", pa.list_(pa.float32(), rows.width)),
        ]
    )

    def batches() -> Iterator[Any]:
        for batch in rows.batches():
            flat = pa.array(batch.vectors.ravel(), pa.float32())
            vectors = pa.FixedSizeListArray.from_arrays(flat, rows.width)
            columns = [pa.array(x, pa.string()) for x in (batch.ids, batch.titles, batch.texts)]
            yield pa.record_batch([*columns, vectors], schema=schema)

    database = lancedb.connect(output)
    if not overwrite and name in database.list_tables().tables:
        raise _exists(f"the table {name!r} of {output}")
    database.create_table(name, batches(), schema=schema, mode="overwrite")


def write_milvus(rows: IndexRows, output: str, *, name: str, overwrite: bool) -> None:
    """Writes a collection of Milvus: the address of a server, or a `.db` file of Milvus Lite.

    Raises:
        UnsupportedError: pymilvus is not installed.
        T1Error: the collection exists (without `overwrite`), a text is too long for Milvus, or the
            server cannot be reached.
    """
    pymilvus = _module("pymilvus", "milvus")
    for batch in rows.batches():
        for identifier, text in zip(batch.ids, batch.texts, strict=True):
            if len(text.encode()) > _MILVUS_BYTES:
                raise T1Error(
                    f"the text of document {identifier!r} is longer than the {_MILVUS_BYTES} bytes "
                    "that Milvus stores",
                    hint="split the document, or export to another engine",
                )
    try:
        client = pymilvus.MilvusClient(uri=output)
        if client.has_collection(name):
            if not overwrite:
                raise _exists(f"the collection {name!r} of {output}")
            client.drop_collection(name)
        kinds = pymilvus.DataType
        schema = client.create_schema(auto_id=False)
        schema.add_field("id", kinds.VARCHAR, is_primary=True, max_length=512)
        schema.add_field("title", kinds.VARCHAR, max_length=_MILVUS_BYTES)
        schema.add_field("text", kinds.VARCHAR, max_length=_MILVUS_BYTES)
        schema.add_field("vector", kinds.FLOAT_VECTOR, dim=rows.width)
        parameters = client.prepare_index_params()
        parameters.add_index("vector", index_type="FLAT", metric_type="IP")
        client.create_collection(name, schema=schema, index_params=parameters)
        for batch in rows.batches():
            client.insert(
                name,
                [
                    {"id": identifier, "title": title, "text": text, "vector": vector}
                    for identifier, title, text, vector in zip(
                        batch.ids, batch.titles, batch.texts, batch.vectors, strict=True
                    )
                ],
            )
        client.close()
    except pymilvus.MilvusException as error:
        raise T1Error(f"Milvus at {output}: {error}", hint="check the address") from error


def write_pgvector(rows: IndexRows, output: str, *, name: str, overwrite: bool) -> None:
    """Writes a table of a PostgreSQL database with pgvector, in one transaction.

    Raises:
        UnsupportedError: psycopg or pgvector is not installed.
        T1Error: the table exists (without `overwrite`), a text has a NUL, or the database refused.
    """
    psycopg = _module("psycopg", "pgvector")
    register_vector = _module("pgvector.psycopg", "pgvector").register_vector
    table = psycopg.sql.Identifier(name)
    try:
        with psycopg.connect(output) as connection:
            connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
            register_vector(connection)
            found = connection.execute("SELECT to_regclass(%s)", [f'"{name}"']).fetchone()
            if found[0] is not None:
                if not overwrite:
                    raise _exists(f"the table {name!r}")
                connection.execute(psycopg.sql.SQL("DROP TABLE {}").format(table))
            create = (
                "CREATE TABLE {} (id text PRIMARY KEY, title text, text text, vector vector({}))"
            )
            width = psycopg.sql.Literal(rows.width)
            connection.execute(psycopg.sql.SQL(create).format(table, width))
            copy = psycopg.sql.SQL("COPY {} (id, title, text, vector) FROM STDIN (FORMAT BINARY)")
            with connection.cursor().copy(copy.format(table)) as writer:
                writer.set_types(["text", "text", "text", "vector"])
                for batch in rows.batches():
                    for row in zip(
                        batch.ids, batch.titles, batch.texts, batch.vectors, strict=True
                    ):
                        writer.write_row(row)
    except psycopg.Error as error:
        raise T1Error(
            f"PostgreSQL: {str(error).strip()}",
            hint="check the address, and that the server has the extension pgvector",
        ) from error


def write_qdrant(rows: IndexRows, output: str, *, name: str, overwrite: bool) -> None:
    """Writes a collection of Qdrant: the address of a server, or a folder.

    A folder is read and written by the client itself, which emulates a server and is meant for
    tests. Points have a UUID derived from the document id, which is in the payload.

    Raises:
        UnsupportedError: qdrant-client is not installed.
        T1Error: the collection exists (without `overwrite`), or the server cannot be reached.
    """
    qdrant = _module("qdrant_client", "qdrant")
    models = qdrant.models
    where = {"url": output} if "://" in output else {"path": output}
    try:
        client = qdrant.QdrantClient(**where)
        if client.collection_exists(name):
            if not overwrite:
                raise _exists(f"the collection {name!r} of {output}")
            client.delete_collection(name)
        size = models.VectorParams(size=rows.width, distance=models.Distance.DOT)
        client.create_collection(name, vectors_config=size)
        for batch in rows.batches():
            points = [
                models.PointStruct(
                    id=str(uuid.uuid5(uuid.NAMESPACE_OID, identifier)),
                    vector=vector.tolist(),
                    payload={"id": identifier, "title": title, "text": text},
                )
                for identifier, title, text, vector in zip(
                    batch.ids, batch.titles, batch.texts, batch.vectors, strict=True
                )
            ]
            client.upsert(name, points)
        client.close()
    except (OSError, RuntimeError, qdrant.http.exceptions.ApiException) as error:
        raise T1Error(f"Qdrant at {output}: {error}", hint="check the address") from error


def check_table_name(name: str) -> None:
    """Raises ConfigError unless every engine accepts a name of a table or collection."""
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]{0,62}", name):
        raise ConfigError(
            f"{name!r} is not a name for a table",
            hint="use at most 63 letters, digits and underscores",
        )


def _module(name: str, extra: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise UnsupportedError(
            f"{name.partition('.')[0]} is not installed", hint=f"pip install 't1_jax[{extra}]'"
        ) from error


def _exists(what: str) -> T1Error:
    return T1Error(f"{what} already exists", hint="choose another --name, or pass --overwrite")
