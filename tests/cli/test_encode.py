import json

import numpy as np
import pytest


def _vectors(folder):
    return json.loads((folder / "ids.json").read_text()), np.load(folder / "vectors.npy")


def test_documents_of_a_collection_are_an_index(t1, base_model, pets, tmp_path):
    folder = tmp_path / "vectors"
    answer = t1("encode", "-c", pets, "-m", base_model, "-o", folder, "--json")
    assert answer.code == 0, answer.err
    assert (answer.json["count"], answer.json["width"]) == (12, 32)
    ids, vectors = _vectors(folder)
    assert ids[:2] == ["cat", "dog"]
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, rtol=1e-5)
    manifest = json.loads((folder / "manifest.json").read_text())
    assert manifest["fingerprint"] == answer.json["fingerprint"]


def test_precision_and_truncation_say_what_they_lose(t1, base_model, pets, tmp_path):
    how = ("encode", "-c", pets, "-m", base_model, "-o", tmp_path / "v")
    answer = t1(*how, "--precision", "int8", "--truncate-dim", 16)
    assert answer.code == 0, answer.err
    assert "12 document embeddings with 16 dimensions" in answer.out
    assert "int8 with 16 dimensions against float32 with 32: recall@10 0." in answer.err
    info = t1("index", "info", tmp_path / "v")
    assert info.code == 0, info.err
    assert "precision recall at 10" in info.out
    assert t1("index", "verify", tmp_path / "v").code == 0
    found = t1("search", tmp_path / "v", "who purrs?", "--no-think", "--json")
    assert found.code == 0, found.err
    explained = t1("explain", tmp_path / "v", "who purrs?", "--max-thought-tokens", 2)
    assert explained.code == 0, explained.err
    answer = t1(*how, "--overwrite", "--truncate-dim", 64)
    assert answer.code == 2
    assert "truncate_dim is 64, and an embedding has 32 dimensions" in answer.err
    answer = t1(*how, "--overwrite", "--side", "query", "--precision", "int8")
    assert answer.code == 2
    assert "--precision and --truncate-dim are for documents" in answer.err


def test_queries_with_and_without_thought(t1, base_model, pets, tmp_path):
    how = ("encode", "-c", pets, "-m", base_model, "--side", "query", "--dtype", "float32")
    thinking = t1(*how, "-o", tmp_path / "a", "--max-thought-tokens", 4, "--json")
    assert thinking.code == 0, thinking.err
    without = t1(*how, "-o", tmp_path / "b", "--no-think", "--json")
    assert without.code == 0, without.err
    (ids, a), (_, b) = _vectors(tmp_path / "a"), _vectors(tmp_path / "b")
    assert ids == ["q1", "q2", "q3", "q4"]
    assert not np.allclose(a, b)
    prints = [answer.json["fingerprint"]["prompt"] for answer in (thinking, without)]
    assert prints[0] != prints[1]


def test_an_input_file(t1, base_model, tmp_path):
    (tmp_path / "texts.jsonl").write_text('{"_id": "a", "text": "x"}\n{"_id": "b", "text": "y"}\n')
    answer = t1("encode", "-i", tmp_path / "texts.jsonl", "-m", base_model, "-o", tmp_path / "v")
    assert answer.code == 0, answer.err
    assert "2 document embeddings with 32 dimensions" in answer.out


def test_a_document_of_200_000_characters_is_cut_and_said_so(t1, base_model, tmp_path):
    line = json.dumps({"_id": "long", "text": "overflow " * 22_300})
    (tmp_path / "texts.jsonl").write_text(line + "\n")
    answer = t1("encode", "-i", tmp_path / "texts.jsonl", "-m", base_model, "-o", tmp_path / "v")
    assert answer.code == 0, answer.err
    assert "truncated: 1 text" in answer.out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        ((), "give either a collection or an input file"),
        (("-c", "cvw"), "did you mean 'cwe'?"),
        (("-c", "cwe"), "hint: t1 pull cwe"),
        (("-i", "missing.jsonl"), "missing.jsonl"),
    ],
)
def test_bad_input(t1, base_model, tmp_path, given, named):
    answer = t1("encode", *given, "-m", base_model, "-o", tmp_path / "v")
    assert answer.code == 2
    assert named in answer.err
    assert not (tmp_path / "v").exists()


def test_a_doubled_id_and_a_malformed_line(t1, base_model, tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text('{"_id": "a", "text": "x"}\n{"_id": "a", "text": "y"}\n')
    answer = t1("encode", "-i", path, "-m", base_model, "-o", tmp_path / "v")
    assert answer.code == 2
    assert "texts.jsonl:2: id 'a' occurred before with different content" in answer.err
    path.write_text('{"_id": "a", "text": "x"}\n{"_id": "b", "text":\n')
    answer = t1("encode", "-i", path, "-m", base_model, "-o", tmp_path / "v")
    assert answer.code == 2
    assert "texts.jsonl:2: malformed JSON" in answer.err


def test_sampling_options_are_checked_before_a_model_is_opened(t1, pets, tmp_path):
    answer = t1(
        "encode", "-c", pets, "-m", tmp_path / "none", "-o", tmp_path / "v", "--temperature", "inf"
    )
    assert answer.code == 2
    assert "temperature must lie between 0.01 and 100, or be 0 (greedy), got inf" in answer.err


def test_queries_are_not_for_a_job_of_several_processes(t1, pets, tmp_path, monkeypatch):
    monkeypatch.setattr("jax.distributed.is_initialized", lambda: True)
    answer = t1("encode", "-c", pets, "--side", "query", "-o", tmp_path / "v")
    assert answer.code == 2
    assert "queries are encoded by one process" in answer.err
