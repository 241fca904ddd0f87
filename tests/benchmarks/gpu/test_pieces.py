"""Pieces: bounded in size, joined only if all of them are there and whole."""

import json
import random

import pytest

from benchmarks.gpu.pieces import join_folder, split_folder


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "content"
    (folder / "deep").mkdir(parents=True)
    (folder / "deep" / "noise").write_bytes(random.Random(0).randbytes(10_000))
    (folder / "name").write_text("t1")
    return folder


def test_pieces_come_together_from_different_trips(folder, tmp_path):
    pieces = split_folder(folder, tmp_path / "all", most_bytes=4_000)
    assert len(pieces) == 3
    assert all(piece.stat().st_size <= 4_000 for piece in pieces)
    for number, piece in enumerate(pieces):
        (tmp_path / f"arrived/{number}").mkdir(parents=True)
        piece.rename(tmp_path / f"arrived/{number}/{piece.name}")
    (tmp_path / "all/pack.manifest.json").rename(tmp_path / "arrived/2/pack.manifest.json")
    join_folder(tmp_path / "arrived", tmp_path / "joined")
    assert (tmp_path / "joined/name").read_text() == "t1"
    noise = (tmp_path / "joined/deep/noise").read_bytes()
    assert noise == (folder / "deep/noise").read_bytes()
    assert sorted(path.name for path in (tmp_path / "joined").iterdir()) == ["deep", "name"]


def test_even_pieces_are_of_one_size(folder, tmp_path):
    sizes = [
        piece.stat().st_size
        for piece in split_folder(folder, tmp_path / "all", most_bytes=9_000, even=True)
    ]
    assert len(sizes) == 2
    assert abs(sizes[0] - sizes[1]) <= 1


def test_every_missing_or_damaged_piece_is_named_and_nothing_is_unpacked(folder, tmp_path):
    pieces = split_folder(folder, tmp_path / "all", most_bytes=4_000)
    pieces[0].unlink()
    pieces[1].write_bytes(b"something else")
    with pytest.raises(ValueError, match=r"pack\.00 is missing; pack\.01 is damaged"):
        join_folder(tmp_path / "all", tmp_path / "joined")
    assert not (tmp_path / "joined").exists()
    with pytest.raises(ValueError, match="holds no training.manifest.json"):
        join_folder(tmp_path / "all", tmp_path / "joined", name="training")


def test_a_new_split_leaves_no_piece_of_an_old_one(folder, tmp_path):
    split_folder(folder, tmp_path / "all", most_bytes=1_000)
    (folder / "deep" / "noise").unlink()
    split_folder(folder, tmp_path / "all", most_bytes=1_000)
    manifest = json.loads((tmp_path / "all/pack.manifest.json").read_text())
    assert sorted(path.name for path in (tmp_path / "all").iterdir()) == [
        *manifest["pieces"],
        "pack.manifest.json",
    ]
