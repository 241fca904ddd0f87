import json

import numpy as np
import pytest


def test_info_says_what_it_holds(t1, pets_index):
    answer = t1("index", "info", pets_index)
    assert answer.code == 0, answer.err
    assert "12 of 32 dimensions" in answer.out
    assert "1.000 (exact)" in answer.out
    manifest = t1("index", "info", pets_index, "--json").json
    assert manifest["kind"] == "numpy"
    assert manifest["count"] == 12


@pytest.mark.parametrize("kind", ["numpy", "device", "scann"])
def test_every_kind_from_vectors(t1, pets_index, tmp_path, kind):
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
    assert "--kind numpy has no settings" in answer.err
    answer = t1(*how, "leafs=3", "--kind", "scann", "--overwrite")
    assert answer.code == 2
    assert "did you mean 'leaves'?" in answer.err


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
    assert "is not a whole index" in answer.err


def test_what_to_index_is_said_once(t1, pets, pets_index, tmp_path):
    for given in ((), ("-c", pets, "--vectors", pets_index)):
        answer = t1("index", "build", tmp_path / "i", *given)
        assert answer.code == 2
        assert "say what to index" in answer.err


def test_a_target_in_use_stays(t1, pets_index):
    before = json.loads((pets_index / "manifest.json").read_text())
    answer = t1("index", "build", pets_index, "--vectors", pets_index)
    assert answer.code == 2
    assert "already exists" in answer.err
    assert json.loads((pets_index / "manifest.json").read_text()) == before
