import json
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def index(pets_index: Path, tmp_path: Path) -> Path:
    return shutil.copytree(pets_index, tmp_path / "index")


def write(path: Path, **texts: str) -> Path:
    path.write_text("".join(json.dumps({"_id": k, "text": v}) + "\n" for k, v in texts.items()))
    return path


def test_new_and_changed_texts_are_encoded_and_found(t1, index, tmp_path):
    file = write(tmp_path / "new.jsonl", wolf="A wolf howls at the moon.", ant="Ants march.")
    answer = t1("index", "add", index, "--input", file)
    assert answer.code == 0, answer.err
    assert "1 added, 1 updated, 0 unchanged; it has 13 documents" in answer.out
    answer = t1("index", "add", index, "--input", file, "--json")
    assert answer.json == {
        "index": str(index), "added": 0, "updated": 0, "unchanged": 2, "count": 13
    }  # fmt: skip
    assert t1("index", "verify", index, "--json").json["cosine"] > 0.999
    found = t1("search", index, "who howls?", "--no-think", "-k", 13)
    assert found.code == 0, found.err
    assert "wolf" in found.out


def test_documents_are_deleted_by_id_or_from_a_file(t1, index, tmp_path):
    answer = t1("index", "delete", index, "cat", "dog")
    assert answer.code == 0, answer.err
    assert "2 deleted; it has 10 documents" in answer.out
    (tmp_path / "ids").write_text("fox\n\nant\n")
    assert t1("index", "delete", index, "--ids", tmp_path / "ids", "--json").json["count"] == 8
    answer = t1("index", "delete", index, "cat")
    assert answer.code == 2
    assert "has no document 'cat'; nothing was deleted\n  hint: " in answer.err
    for given in ((), ("cat", "--ids", tmp_path / "ids")):
        answer = t1("index", "delete", index, *given)
        assert answer.code == 2
        assert "give the ids of the documents to delete" in answer.err


def test_what_to_add_is_said_once(t1, index, pets):
    for given in ((), ("-c", pets, "-i", pets / "corpus.jsonl")):
        answer = t1("index", "add", index, *given)
        assert answer.code == 2
        assert "give either a collection or an input file to add" in answer.err


def test_a_model_of_other_embeddings_is_not_mixed_in(t1, index, tmp_path, base_model):
    file = write(tmp_path / "new.jsonl", wolf="A wolf howls at the moon.")
    manifest = json.loads((index / "manifest.json").read_text())
    manifest["fingerprint"]["prompt"] = "ab"
    (index / "manifest.json").write_text(json.dumps(manifest))
    answer = t1("index", "add", index, "-i", file)
    assert answer.code == 2
    assert "belongs to another encoder, prompt or collection" in answer.err


def test_indexes_are_compared(t1, pets_index, index):
    answer = t1("index", "diff", pets_index, index)
    assert answer.code == 0, answer.err
    assert "no difference" in answer.out
    assert t1("index", "delete", index, "cat").code == 0
    answer = t1("index", "diff", pets_index, index)
    assert f"only in {pets_index}: 1 document (cat)" in answer.out
    assert "same: 11 documents" in answer.out
    assert t1("index", "diff", pets_index, index, "--json").json["only_a"] == ["cat"]
