"""Writes safetensors shards tensor by tensor, so that no shard is in memory as a whole."""

import json
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np

from t1_jax.hub.json_files import to_json
from t1_jax.hub.safetensors_source import INDEX_FILE, SINGLE_FILE

_NAMES = {
    np.dtype(np.float32): "F32",
    np.dtype(np.float16): "F16",
    np.dtype(ml_dtypes.bfloat16): "BF16",
}


@dataclass(frozen=True, kw_only=True)
class _Shard:
    """File name, and shapes of its tensors in order."""

    name: str
    shapes: Mapping[str, tuple[int, ...]]


def write_safetensors(
    folder: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype,
    read: Callable[[str], np.ndarray],
    *,
    max_shard_bytes: int,
) -> list[Path]:
    """Writes tensors, in the order of `shapes`, in the layout of a Hugging Face folder.

    `read` is called once per tensor, in order. A tensor larger than `max_shard_bytes` gets its own
    file. Returns the weight files, without the index file that is written for several of them.
    """
    shards = _shards(shapes, dtype.itemsize, max_shard_bytes)
    for shard in shards:
        _write_shard(folder / shard.name, shard.shapes, dtype, read)
    if len(shards) > 1:
        total = sum(math.prod(shape) for shape in shapes.values()) * dtype.itemsize
        weight_map = {name: shard.name for shard in shards for name in shard.shapes}
        index = {"metadata": {"total_size": total}, "weight_map": weight_map}
        (folder / INDEX_FILE).write_text(to_json(index), encoding="utf-8")
    return [folder / shard.name for shard in shards]


def _shards(shapes: Mapping[str, tuple[int, ...]], itemsize: int, max_bytes: int) -> list[_Shard]:
    """Tensors in order, divided into files."""
    groups: list[dict[str, tuple[int, ...]]] = [{}]
    used = 0
    for name, shape in shapes.items():
        size = math.prod(shape) * itemsize
        if groups[-1] and used + size > max_bytes:
            groups.append({})
            used = 0
        groups[-1][name] = shape
        used += size
    if len(groups) == 1:
        return [_Shard(name=SINGLE_FILE, shapes=groups[0])]
    return [
        _Shard(name=f"model-{number:05}-of-{len(groups):05}.safetensors", shapes=group)
        for number, group in enumerate(groups, start=1)
    ]


def _write_shard(
    path: Path,
    shapes: Mapping[str, tuple[int, ...]],
    dtype: np.dtype,
    read: Callable[[str], np.ndarray],
) -> None:
    with path.open("wb") as file:
        file.writelines(_header(shapes.items(), dtype))
        for name in shapes:
            file.write(np.ascontiguousarray(read(name)).view(np.uint8).data)


def _header(shapes: Iterable[tuple[str, tuple[int, ...]]], dtype: np.dtype) -> tuple[bytes, bytes]:
    """Length of the header in bytes, and the header, padded to align the data."""
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    start = 0
    for name, shape in shapes:
        stop = start + math.prod(shape) * dtype.itemsize
        offsets = [start, stop]
        entries[name] = {"dtype": _NAMES[dtype], "shape": shape, "data_offsets": offsets}
        start = stop
    header = json.dumps(entries, separators=(",", ":")).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little"), header
