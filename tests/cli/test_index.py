import gzip
import hashlib
import json
import shutil
import sys

import numpy as np
import pytest

from t1_jax import retrieval
from t1_jax.errors import IndexContractError


def test_info_says_what_it_holds(t1, pets_index):
    answer = t1("index", "info", pets_index)
    assert answer.code == 0, answer.err
    assert "12 with 32 dimensions" in answer.out
    assert "1.000 (exact)" in answer.out
    manifest = t1("index", "info", pets_index, "--json").json
    assert manifest["kind"] == "numpy"
    assert manifest["count"] == 12


@pytest.mark.parametrize("kind", ["numpy", "jax", "scann", "faiss"])
def test_every_kind_from_vectors(t1, pets_index, tmp_path, kind):
    if kind == "faiss":
        pytest.importorskip("faiss", reason="needs t1_jax[faiss]")
    answer = t1("index", "build", tmp_path / "i", "--vectors", pets_index, "--kind", kind, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["kind"] == kind
    assert answer.json["recall_at_10"] == 1
    before = t1("index", "info", pets_index, "--json").json
    assert answer.json["fingerprint"] == before["fingerprint"]


def test_settings_belong_to_scann(t1, pets_index, tmp_path):
    how = ("index", "build", tmp_path / "i", "--vectors", pets_index)
    answer = t1(*how, "method=brute_force", "candidates=5", "--kind", "scann", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["settings"]["candidates"] == 5
    answer = t1(*how, "leaves=3", "--overwrite")
    assert answer.code == 2
    assert "--kind numpy is exact and has no settings" in answer.err
    answer = t1(*how, "leafs=3", "--kind", "scann", "--overwrite")
    assert answer.code == 2
    assert "did you mean 'leaves'?" in answer.err


def test_recall_is_measured_with_queries_and_a_target_is_taken(t1, pets_index, tmp_path):
    how = ("index", "build", tmp_path / "i", "--vectors", pets_index)
    measured = ("--queries", pets_index, "--recall", 0.5)
    answer = t1(*how, *measured, "--kind", "scann", "--json")
    assert answer.code == 0, answer.err
    assert answer.json["settings"]["minimum_recall"] == 0.5
    assert answer.json["measured"]["recall_with"] == "12 queries"
    assert answer.json["measured"]["queries_per_second"] > 0
    answer = t1(*how, *measured)
    assert answer.code == 2
    assert "--kind numpy is exact and has no settings" in answer.err
    fingerprint = retrieval.Fingerprint(encoder="e0", prompt="f0", data="d0")
    retrieval.build_index("numpy", ["q"], np.ones((1, 8))).save(tmp_path / "q", fingerprint)
    other = ("index", "build", tmp_path / "other", "--vectors", pets_index)
    answer = t1(*other, "--kind", "scann", "--queries", tmp_path / "q")
    assert answer.code == 2
    assert "has 8 dimensions, and the documents have 32" in answer.err
    answer = t1(*other, "--kind", "scann", "--queries", tmp_path / "none")
    assert answer.code == 2
    assert "is not an index" in answer.err


def test_damage_is_noticed(t1, pets_index, tmp_path):
    copy = tmp_path / "index"
    copy.mkdir()
    for file in pets_index.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    vectors = np.load(copy / "vectors.npy")
    vectors[0, 0] = np.nan
    np.save(copy / "vectors.npy", vectors)
    answer = t1("index", "info", copy)
    assert answer.code == 2
    assert "the SHA-256 of vectors.npy is not" in answer.err
    answer = t1("index", "info", tmp_path)
    assert answer.code == 2
    assert "is not an index" in answer.err


def test_verifying_hashes_everything_and_encodes_some_texts_again(
    t1, pets_index, base_model, tmp_path
):
    answer = t1("index", "verify", pets_index, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["cosine"] > 0.999
    copy = shutil.copytree(pets_index, tmp_path / "index")
    vectors = np.load(copy / "vectors.npy")
    np.save(copy / "vectors.npy", np.roll(vectors, 1, axis=0))
    digest = hashlib.sha256((copy / "vectors.npy").read_bytes()).hexdigest()
    manifest = json.loads((copy / "manifest.json").read_text())
    manifest["files"]["vectors.npy"] = digest
    (copy / "manifest.json").write_text(json.dumps(manifest))
    answer = t1("index", "verify", copy)
    assert answer.code == 2
    assert "to another embedding (cosine" in answer.err


def test_what_to_index_is_said_once(t1, pets, pets_index, tmp_path):
    for given in ((), ("-c", pets, "--vectors", pets_index)):
        answer = t1("index", "build", tmp_path / "i", *given)
        assert answer.code == 2
        assert "give one source to index" in answer.err


def test_a_target_in_use_stays(t1, pets_index):
    before = json.loads((pets_index / "manifest.json").read_text())
    answer = t1("index", "build", pets_index, "--vectors", pets_index)
    assert answer.code == 2
    assert "already exists" in answer.err
    assert json.loads((pets_index / "manifest.json").read_text()) == before


def test_documents_alone_are_enough(t1, base_model, pets, tmp_path):
    """No queries, no qrels; a packed corpus; and a document without text if that is accepted."""
    with gzip.open(tmp_path / "corpus.jsonl.gz", "wt") as file:
        file.write((pets / "corpus.jsonl").read_text() + '{"_id": "void", "text": " "}\n')
    how = ("index", "build", tmp_path / "i", "-c", tmp_path, "-m", base_model, "--json")
    answer = t1(*how)
    assert answer.code == 2
    assert "corpus.jsonl.gz:13: document 'void' (1 document without title and text)" in answer.err
    assert "--lenient" in answer.err
    answer = t1(*how, "--lenient")
    assert answer.code == 0, answer.err
    assert answer.json["count"] == 12
    assert "1 document without title and text (dropped)" in answer.err


def test_vectors_survive_a_build_that_fails(t1, base_model, pets, tmp_path, monkeypatch):
    how = ("index", "build", tmp_path / "i", "-c", pets, "-m", base_model, "--kind", "scann")
    build = retrieval.build_from_table

    def fail(kind, table, **how):
        if kind == "scann":
            raise IndexContractError("ScaNN finds too little", hint="search more leaves")
        return build(kind, table, **how)

    monkeypatch.setattr(retrieval, "build_from_table", fail)
    answer = t1(*how)
    assert answer.code == 2
    kept = tmp_path / "i.vectors"
    assert f"the embeddings are kept in {kept}" in answer.err
    assert "hint: search more leaves; an exact index of them: t1 index build" in answer.err
    assert not (tmp_path / "i").exists()
    exact = t1("index", "build", tmp_path / "exact", "--vectors", kept, "--json")
    assert exact.code == 0, exact.err

    monkeypatch.undo()
    monkeypatch.setattr("t1_jax.retriever.loading.load_opened", None)  # nothing is encoded again
    answer = t1(*how, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["kind"] == "scann"
    assert answer.json["encoding"] == exact.json["encoding"]
    assert not kept.exists()


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--kind", "scann", "method=tree"), "a tree needs at least 16 rows, there are 12"),
        (("--kind", "scann", "leaves=13", "method=brute_force"), "13 leaves over 12 rows"),
        (("--task", "cwee"), "did you mean 'cwe'?"),
        (("--task", "cwe", "--instruction", "x"), "not both"),
        (("--preset", "t2"), "unknown prompt preset"),
    ],
)
def test_mistakes_are_found_before_weights_are_read(
    t1, base_model, pets, tmp_path, monkeypatch, given, named
):
    monkeypatch.setattr("t1_jax.retriever.loading.load_opened", None)
    answer = t1("index", "build", tmp_path / "i", "-c", pets, "-m", base_model, *given)
    assert answer.code == 2
    assert named in answer.err
    assert list(tmp_path.iterdir()) == []


def test_scann_that_is_not_installed_is_told_first(t1, pets, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "scann", None)
    answer = t1("index", "build", tmp_path / "i", "-c", pets, "--kind", "scann")
    assert answer.code == 2
    assert "ScaNN is not installed" in answer.err
