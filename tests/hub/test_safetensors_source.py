"""Safetensors folders: whole ones are read exactly, damaged ones are refused by name."""

import json
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save_file

from t1_jax.errors import WeightsError
from t1_jax.hub.safetensors_source import SafetensorsSource

TENSORS = {
    "a.weight": np.arange(12, dtype=np.float32).reshape(3, 4),
    "b.weight": np.linspace(-2, 2, 10).astype(ml_dtypes.bfloat16).reshape(2, 5),
    "c.bias": np.array([0.1, -0.2, 65504], np.float16),
}


def one_file(folder: Path) -> Path:
    save_file(TENSORS, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def two_shards(folder: Path) -> Path:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    save_file({"a.weight": TENSORS["a.weight"]}, folder / first)
    save_file({name: TENSORS[name] for name in ("b.weight", "c.bias")}, folder / second)
    weight_map = {"a.weight": first, "b.weight": second, "c.bias": second}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    return folder


@pytest.mark.parametrize("make", [one_file, two_shards])
def test_tensors_are_read_bit_for_bit_in_their_own_dtype(tmp_path: Path, make) -> None:
    source = SafetensorsSource(make(tmp_path))
    assert set(source.names()) == set(TENSORS)
    for name, expected in TENSORS.items():
        read = source.read(name)
        assert (source.shape(name), source.dtype(name)) == (expected.shape, expected.dtype)
        assert (read.shape, read.dtype) == (expected.shape, expected.dtype)
        assert read.tobytes() == expected.tobytes()


def test_reading_maps_the_file_instead_of_copying_it(tmp_path: Path) -> None:
    read = SafetensorsSource(one_file(tmp_path)).read("a.weight")
    assert not read.flags.owndata
    assert not read.flags.writeable


def test_several_files_without_an_index_are_one_checkpoint(tmp_path: Path) -> None:
    (two_shards(tmp_path) / "model.safetensors.index.json").unlink()
    assert set(SafetensorsSource(tmp_path).names()) == set(TENSORS)


def test_location_names_the_tensor_and_its_file(tmp_path: Path) -> None:
    source = SafetensorsSource(two_shards(tmp_path))
    assert source.location("c.bias") == (
        f"tensor c.bias in {tmp_path / 'model-00002-of-00002.safetensors'}"
    )


def test_a_file_cut_short_is_refused_and_names_the_tensor(tmp_path: Path) -> None:
    file = one_file(tmp_path) / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-3])
    with pytest.raises(WeightsError, match=r"model\.safetensors is truncated .* c\.bias"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    "damaged",
    [b"", b"\x01", b"\xff" * 8, b"\x10" + b"\0" * 7 + b"not json at all!", b"\0" * 64],
    ids=["empty", "one byte", "endless header", "header not JSON", "zeros"],
)
def test_a_damaged_header_is_refused(tmp_path: Path, damaged: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(damaged)
    with pytest.raises(WeightsError, match=r"model\.safetensors is truncated or damaged"):
        SafetensorsSource(tmp_path)


@given(data=st.binary(max_size=300))
def test_no_bytes_are_mistaken_for_weights(tmp_path_factory, data: bytes) -> None:
    folder = tmp_path_factory.mktemp("bytes")
    (folder / "model.safetensors").write_bytes(data)
    with pytest.raises(WeightsError):
        SafetensorsSource(folder)


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    (two_shards(tmp_path) / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(WeightsError, match="missing: .*model-00002-of-00002.safetensors"):
        SafetensorsSource(tmp_path)


def test_a_tensor_in_two_files_is_refused(tmp_path: Path) -> None:
    save_file({"a.weight": TENSORS["a.weight"]}, tmp_path / "one.safetensors")
    save_file({"a.weight": TENSORS["a.weight"]}, tmp_path / "two.safetensors")
    with pytest.raises(WeightsError, match=r"a\.weight is in both .*one.* and .*two"):
        SafetensorsSource(tmp_path)


def test_an_index_that_disagrees_with_its_files_is_refused(tmp_path: Path) -> None:
    index = two_shards(tmp_path) / "model.safetensors.index.json"
    mapped = json.loads(index.read_text())["weight_map"]
    mapped["a.weight"] = "model-00002-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": mapped | {"d.weight": mapped["c.bias"]}}))
    with pytest.raises(WeightsError, match=r"differ in: a\.weight, d\.weight"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize("stale", ["shards of an earlier save", "shards gone", "not an index"])
def test_the_single_file_wins_over_an_index_of_another_save(tmp_path: Path, stale: str) -> None:
    """As in transformers, which looks for `model.safetensors` first."""
    shard = "model-00001-of-00001.safetensors"
    earlier = {name: values / 2 for name, values in TENSORS.items()}
    if stale == "shards of an earlier save":
        save_file(earlier, tmp_path / shard)
    index = json.dumps({"weight_map": dict.fromkeys(earlier, shard)})
    (tmp_path / "model.safetensors.index.json").write_text("[" if "not" in stale else index)
    source = SafetensorsSource(one_file(tmp_path))
    assert set(source.names()) == set(TENSORS)
    np.testing.assert_array_equal(source.read("a.weight"), TENSORS["a.weight"])
    assert source.location("a.weight").endswith("/model.safetensors")


def test_one_file_is_read_alone_whatever_lies_beside_it(tmp_path: Path) -> None:
    save_file({"x": TENSORS["a.weight"]}, one_file(tmp_path) / "adapter_model.safetensors")
    assert set(SafetensorsSource(tmp_path).names()) == set(TENSORS)
    assert set(SafetensorsSource(tmp_path / "adapter_model.safetensors").names()) == {"x"}


def test_weights_of_an_adapter_are_not_the_models(tmp_path: Path) -> None:
    save_file({"x": TENSORS["a.weight"]}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(WeightsError, match="has no safetensors files"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"weight_map": 3}',
        '{"weight_map": {"a": 3}}',
        '{"weight_map": {"a": "../a.safetensors"}}',
        '{"weight_map": {"a": ""}}',
        '{"weight_map":' * 50_000,
    ],
    ids=lambda text: text[:40],
)
def test_an_index_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "model.safetensors.index.json").write_text(text)
    with pytest.raises(WeightsError, match=r"model\.safetensors\.index\.json|is not a file"):
        SafetensorsSource(tmp_path)


@pytest.mark.parametrize("name", ["model.safetensors", "model.safetensors.index.json"])
def test_a_broken_link_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).symlink_to(tmp_path / "gone")
    with pytest.raises(WeightsError, match=f"{name} is a broken link: .*gone is missing"):
        SafetensorsSource(tmp_path)


def test_a_folder_in_the_place_of_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").mkdir()
    with pytest.raises(WeightsError, match=r"model\.safetensors is not a file"):
        SafetensorsSource(tmp_path)


def test_tensors_without_values_are_read_as_such(tmp_path: Path) -> None:
    empty = {"a.weight": np.zeros((0, 3), np.float32), "b.weight": np.ones(1, np.float32)}
    save_file(empty, tmp_path / "model.safetensors")
    assert SafetensorsSource(tmp_path).read("a.weight").shape == (0, 3)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match="has no safetensors files"):
        SafetensorsSource(tmp_path)


def test_quantized_integers_are_refused_by_tensor(tmp_path: Path) -> None:
    save_file({"a.weight": np.zeros(4, np.int8)}, tmp_path / "model.safetensors")
    with pytest.raises(WeightsError, match=r"a\.weight .* has dtype I8"):
        SafetensorsSource(tmp_path).read("a.weight")
