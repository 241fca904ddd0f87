"""Added, updated and removed documents: the index is that of a build from scratch."""

import tracemalloc
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import (
    Collection,
    Document,
    Fingerprint,
    ScannSettings,
    build_index,
    edit_index,
    find_changes,
    index_documents,
    load_index,
    read_manifest,
    verify_index,
    write_documents,
    write_exact_index,
)
from t1_jax.retrieval.index.embedding_table import unit_vectors

DOCUMENTS = [Document(id=f"d{n:02d}", title="", text=f"text {n}") for n in range(40)]
VECTORS = np.random.default_rng(0).standard_normal((60, 8)).astype(np.float32)


def data_hash(documents: list[Document]) -> str:
    return Collection(name="x", documents=tuple(documents), queries=(), qrels={}).data_hash


def saved(folder: Path, kind: str = "numpy", *, texts: bool = True, **options) -> Path:
    fingerprint = Fingerprint(encoder="e0", prompt="f0", data=data_hash(DOCUMENTS))
    build_index(kind, [document.id for document in DOCUMENTS], VECTORS[:40], **options).save(
        folder,
        fingerprint,
        encoding={"model": "m"},
        documents=DOCUMENTS if texts else (),
    )
    return folder


def test_documents_are_compared_with_those_of_the_index(tmp_path: Path):
    given = [
        DOCUMENTS[0],
        Document(id="d01", title="", text="other"),
        Document(id="new", title="", text="text 0"),
    ]
    changes = find_changes(saved(tmp_path / "index"), given)
    assert [document.id for document in changes.added] == ["new"]
    assert [document.id for document in changes.updated] == ["d01"]
    assert changes.unchanged == 1


@pytest.mark.parametrize("kind", ["numpy", "jax", "scann", "faiss"])
def test_an_edited_index_is_the_index_of_these_documents(kind: str, tmp_path: Path):
    if kind == "faiss":
        pytest.importorskip("faiss", reason="needs t1_jax[faiss]")
    folder = saved(tmp_path / "index", kind)
    updated = Document(id="d05", title="New", text="new text")
    added = Document(id="a", title="", text="added")
    manifest = edit_index(folder, documents=[updated, added], vectors=VECTORS[40:42])
    manifest = edit_index(folder, removed=["d00", "d39"])
    expected = [*DOCUMENTS[1:5], updated, *DOCUMENTS[6:39], added]
    assert (manifest.kind, manifest.count) == (kind, 39)
    assert manifest.encoding == {"model": "m"}
    assert manifest.fingerprint.data == data_hash(expected)
    assert list(index_documents(folder)) == expected
    verify_index(folder)
    index = load_index(folder, manifest.fingerprint)
    assert index.ids == tuple(document.id for document in expected)
    vectors = np.concatenate([VECTORS[1:5], VECTORS[40:41], VECTORS[6:39], VECTORS[41:42]])
    scratch = build_index("numpy", index.ids, vectors)
    np.testing.assert_array_equal(index.vectors, scratch.vectors)
    np.testing.assert_array_equal(
        index.search(VECTORS[:9], 5).rows, scratch.search(VECTORS[:9], 5).rows
    )


def test_an_exact_index_is_copied_in_blocks_of_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("t1_jax.retrieval.index.edit._BLOCK_BYTES", 1 << 18)
    rows, width = 840, 8192
    documents = [Document(id=f"d{row:04d}", text="word " * 40 + str(row)) for row in range(rows)]
    write_documents(tmp_path / "documents.jsonl", documents)
    generator = np.random.default_rng(1)
    write_exact_index(
        tmp_path / "index",
        [document.id for document in documents],
        (unit_vectors(generator.standard_normal((70, width)), ["x"] * 70) for _ in range(12)),
        width,
        Fingerprint(encoder="e0", prompt="f0", data=data_hash(documents)),
        encoding={"model": "m"},
        document_files=[tmp_path / "documents.jsonl"],
    )
    fingerprint = read_manifest(tmp_path / "index").fingerprint
    before = np.array(load_index(tmp_path / "index", fingerprint).table.stored)
    new = [Document(id="d0007", text="changed"), Document(id="e", text="added")]
    vectors = generator.standard_normal((2, width)).astype(np.float32)
    tracemalloc.start()
    try:
        find_changes(tmp_path / "index", new)
        manifest = edit_index(
            tmp_path / "index", documents=new, vectors=vectors, removed=["d0000", "d0839"]
        )
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < before.nbytes / 2
    expected = [*documents[1:7], new[0], *documents[8:-1], new[1]]
    assert manifest.fingerprint.data == data_hash(expected)
    assert list(index_documents(tmp_path / "index")) == expected
    stored = load_index(tmp_path / "index", manifest.fingerprint).table.stored
    fresh = unit_vectors(vectors, ["a", "b"])
    np.testing.assert_array_equal(
        stored, np.concatenate([before[1:7], fresh[:1], before[8:-1], fresh[1:]])
    )


def test_settings_of_a_tree_are_kept_and_those_of_searches_measured_again(tmp_path: Path):
    settings = ScannSettings(method="tree", leaves=2, leaves_to_search=2, candidates=33)
    folder = saved(tmp_path / "index", "scann", scann=settings)
    edited = edit_index(folder, removed=["d00"]).settings
    assert (edited["method"], edited["leaves"]) == ("tree", 2)
    assert edited["candidates"] != 33


def test_number_format_and_truncation_are_those_of_the_index(tmp_path: Path):
    write_documents(tmp_path / "documents.jsonl", DOCUMENTS)
    unit = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)
    write_exact_index(
        tmp_path / "index",
        [document.id for document in DOCUMENTS],
        [unit[:40]],
        8,
        Fingerprint(encoder="e0", prompt="f0", data="d0"),
        precision="int8",
        truncate_dim=6,
        encoding={},
        document_files=[tmp_path / "documents.jsonl"],
    )
    before = np.array(
        load_index(
            tmp_path / "index", Fingerprint(encoder="e0", prompt="f0", data="d0")
        ).table.stored
    )
    new = Document(id="new", title="", text="new")
    manifest = edit_index(tmp_path / "index", documents=[new], vectors=VECTORS[40:41])
    assert (manifest.precision, manifest.width, manifest.truncated_from) == ("int8", 6, 8)
    index = load_index(tmp_path / "index", manifest.fingerprint)
    np.testing.assert_array_equal(index.table.stored[:40], before)
    assert index.search(VECTORS[40:41], 1).rows.tolist() == [[40]]


def test_what_cannot_be_edited_is_unchanged(tmp_path: Path):
    folder = saved(tmp_path / "index")
    before = read_manifest(folder)
    with pytest.raises(DataError, match="no document 'D07', 'x'; nothing was deleted") as caught:
        edit_index(folder, removed=["d00", "D07", "x"])
    assert caught.value.hint == f"did you mean 'd07'? {folder}/ids.json lists all ids"
    with pytest.raises(DataError) as caught:
        edit_index(folder, removed=["x"])
    assert caught.value.hint == f"{folder}/ids.json lists all ids"
    with pytest.raises(DataError, match="no document would be left"):
        edit_index(folder, removed=[document.id for document in DOCUMENTS])
    assert read_manifest(folder) == before


def test_an_index_of_a_folder_follows_the_folder(tmp_path: Path):
    fingerprint = Fingerprint(encoder="e0", prompt="f0", data="d0")
    source = {"root": "/notes", "files": {}}
    build_index("numpy", ["a"], np.ones((1, 2))).save(tmp_path / "i", fingerprint, source=source)
    with pytest.raises(ConfigError, match="follows the files of /notes"):
        edit_index(tmp_path / "i", removed=["a"])


def test_an_index_without_texts_can_only_lose_documents(tmp_path: Path):
    folder = saved(tmp_path / "index", texts=False)
    with pytest.raises(ConfigError, match="vectors without texts"):
        find_changes(folder, DOCUMENTS)
    before = read_manifest(folder).fingerprint
    manifest = edit_index(folder, removed=["d00"])
    assert manifest.count == 39
    assert manifest.fingerprint.data != before.data
