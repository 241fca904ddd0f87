import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import IndexContractError, T1Error
from t1_jax.retrieval import (
    CorruptIndexError,
    Fingerprint,
    IndexMismatchError,
    IndexVersionError,
    read_manifest,
)
from t1_jax.retrieval.index import EmbeddingTable, store
from t1_jax.retrieval.index.store import read_index, verify_index, write_index

MINE = Fingerprint(encoder="e0" * 32, prompt="f0" * 32, data="d0" * 32)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    table = EmbeddingTable.from_vectors(["a", "b c"], np.eye(2, 3))
    write_index(tmp_path / "index", "numpy", table, MINE, settings={"x": 1}, recall_at_10=0.5)
    return tmp_path / "index"


def edit_manifest(folder: Path, **changes: object) -> None:
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_round_trip_keeps_everything(folder: Path):
    manifest, table = read_index(folder, MINE)
    assert table.ids == ("a", "b c")
    np.testing.assert_array_equal(table.vectors, np.eye(2, 3, dtype=np.float32))
    assert (manifest.kind, manifest.count, manifest.width) == ("numpy", 2, 3)
    assert (manifest.settings, manifest.recall_at_10) == ({"x": 1}, 0.5)
    assert read_manifest(folder) == manifest


def test_nothing_in_the_folder_names_where_it_lay(folder: Path):
    for path in folder.rglob("*"):
        assert str(folder.parent).encode() not in path.read_bytes()


@pytest.mark.parametrize("part", ["encoder", "prompt", "data"])
def test_another_fingerprint_is_refused_and_both_are_shown(folder: Path, part: str):
    other = replace(MINE, **{part: "ab" * 32})
    with pytest.raises(IndexMismatchError) as caught:
        read_index(folder, other)
    (line,) = [line for line in str(caught.value).splitlines() if "differs" in line]
    assert line.split()[0] == part
    assert "ab" * 32 in line
    assert str(vars(MINE)[part]) in line


def test_a_fingerprint_is_hexadecimal():
    with pytest.raises(IndexContractError, match="prompt must be a hex digest, got 'T1'"):
        Fingerprint(encoder="e0", prompt="T1", data="d0")


@pytest.mark.parametrize("name", ["vectors.npy", "ids.json"])
def test_damage_is_noticed(folder: Path, name: str):
    content = bytearray((folder / name).read_bytes())
    content[-1] ^= 1
    (folder / name).write_bytes(content)
    with pytest.raises(CorruptIndexError, match=f"the SHA-256 of {name}"):
        read_index(folder, MINE)
    (folder / name).unlink()
    with pytest.raises(CorruptIndexError, match=f"{name} is missing"):
        read_index(folder, MINE)


def test_of_a_large_file_only_the_size_is_checked_until_it_is_verified(folder: Path, monkeypatch):
    monkeypatch.setattr(store, "HASHED_BYTES", 0)
    content = bytearray((folder / "vectors.npy").read_bytes())
    content[-1] ^= 1
    (folder / "vectors.npy").write_bytes(content)
    read_index(folder, MINE)
    with pytest.raises(CorruptIndexError, match=r"the SHA-256 of vectors\.npy"):
        verify_index(folder)
    (folder / "vectors.npy").write_bytes(content[:-1])
    with pytest.raises(CorruptIndexError, match=r"vectors\.npy has 151 bytes, expected 152"):
        read_index(folder, MINE)


def test_an_index_of_an_earlier_version_has_no_sizes_and_is_hashed(folder: Path, monkeypatch):
    monkeypatch.setattr(store, "HASHED_BYTES", 0)
    edit_manifest(folder, version=2, sizes={})
    read_index(folder, MINE)
    (folder / "ids.json").write_text('["a", "b d"]')
    with pytest.raises(CorruptIndexError, match=r"the SHA-256 of ids\.json"):
        read_index(folder, MINE)


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"version": "new"}', '{"version": 1}'])
def test_a_malformed_manifest_is_damage(folder: Path, content: str):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(CorruptIndexError, match=r"manifest\.json"):
        read_index(folder, MINE)


def test_a_folder_that_is_no_index_is_damage(tmp_path: Path):
    with pytest.raises(CorruptIndexError, match=r"it has no manifest\.json"):
        read_index(tmp_path, MINE)


def test_an_unknown_format_version_is_an_error(folder: Path):
    edit_manifest(folder, version=5, future="field")
    with pytest.raises(IndexVersionError, match=r"version 5; .* 1 to 4\n.*install a newer t1_jax"):
        read_index(folder, MINE)


def test_a_manifest_that_counts_otherwise_is_damage(folder: Path):
    edit_manifest(folder, count=3)
    with pytest.raises(CorruptIndexError, match=r"vectors float32\(2, 3\) and 2 ids"):
        read_index(folder, MINE)


def test_a_write_that_fails_leaves_nothing(folder: Path):
    def full_disk(_: Path) -> None:
        raise OSError(28, "No space left on device")

    table = EmbeddingTable.from_vectors(["z"], np.ones((1, 3)))
    with pytest.raises(T1Error, match="No space left"):
        write_index(folder, "numpy", table, MINE, write_backend_files=full_disk, overwrite=True)
    assert read_index(folder, MINE)[1].ids == ("a", "b c")
    assert [path.name for path in folder.parent.iterdir()] == ["index"]
    with pytest.raises(T1Error, match="already exists"):
        write_index(folder, "numpy", table, MINE)


def test_a_kill_at_any_moment_leaves_the_old_index_or_the_new_one(tmp_path: Path):
    command = [sys.executable, "-m", "tests.retrieval.index.kill_worker", tmp_path / "index", "20"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "[0, 1]\n"), done.stderr
