"""Shards: what is written is what the safetensors library and our own source read."""

import json
import tracemalloc
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.safetensors_writer import write_safetensors

SHAPES = {"a": (3, 4), "b": (5,), "c": (2, 2, 2), "d": (40,)}


def values(dtype) -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {name: generator.standard_normal(shape).astype(dtype) for name, shape in SHAPES.items()}


@pytest.mark.parametrize("dtype", [np.float32, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("max_shard_bytes", [10**9, 60, 1])
def test_what_is_written_is_read(tmp_path: Path, dtype, max_shard_bytes: int) -> None:
    tensors = values(dtype)
    files = write_safetensors(
        tmp_path, SHAPES, np.dtype(dtype), tensors.__getitem__, max_shard_bytes=max_shard_bytes
    )
    read = {name: array for file in files for name, array in load_file(file).items()}
    source = SafetensorsSource(tmp_path)
    for name, expected in tensors.items():
        assert read[name].dtype == source.dtype(name) == expected.dtype
        assert read[name].tobytes() == source.read(name).tobytes() == expected.tobytes()


def test_shards_keep_to_their_size_and_the_index_names_them(tmp_path: Path) -> None:
    tensors = values(np.float32)
    files = write_safetensors(
        tmp_path, SHAPES, np.dtype(np.float32), tensors.__getitem__, max_shard_bytes=100
    )
    assert [file.name for file in files] == [f"model-0000{i}-of-00002.safetensors" for i in (1, 2)]
    index = json.loads((tmp_path / "model.safetensors.index.json").read_text())
    assert index["metadata"]["total_size"] == 4 * (12 + 5 + 8 + 40)
    assert index["weight_map"] == {
        "a": files[0].name,
        "b": files[0].name,
        "c": files[0].name,
        "d": files[1].name,
    }


def test_a_single_file_needs_no_index(tmp_path: Path) -> None:
    tensors = values(np.float32)
    write_safetensors(
        tmp_path, SHAPES, np.dtype(np.float32), tensors.__getitem__, max_shard_bytes=10**9
    )
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_transposed_tensor_is_written_in_its_own_order(tmp_path: Path) -> None:
    turned = np.arange(6, dtype=np.float32).reshape(2, 3).T
    write_safetensors(
        tmp_path, {"a": (3, 2)}, turned.dtype, lambda name: turned, max_shard_bytes=10**9
    )
    np.testing.assert_array_equal(SafetensorsSource(tmp_path).read("a"), turned)


def test_one_tensor_at_a_time_is_in_memory(tmp_path: Path) -> None:
    shapes = {f"t{i}": (250_000,) for i in range(20)}
    tracemalloc.start()
    write_safetensors(
        tmp_path,
        shapes,
        np.dtype(np.float32),
        lambda name: np.ones(250_000, np.float32),
        max_shard_bytes=10**9,
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2.5 * 1_000_000
