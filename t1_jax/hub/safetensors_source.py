"""Weights of a Hugging Face folder: one or more safetensors files, memory-mapped.

The files of the checkpoint are those that transformers would load: `model.safetensors` if it
exists, else the shards in the index. Other files in the folder may belong to another save.
"""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from t1_jax.errors import WeightsError
from t1_jax.hub.json_files import check_link, read_json

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
# Not part of the checkpoint: the weights of an adapter, and a copy in another format.
_OTHER_FILES = ("adapter_model.safetensors", "consolidated.safetensors")
_HEADER_LENGTH_BYTES = 8
_DOWNLOAD_AGAIN = "download the file again, and compare its sha256 with the publisher's"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """A tensor in a file; `start` is its offset from the beginning of the file, in bytes."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class SafetensorsSource:
    """A `TensorSource` over safetensors files.

    Args:
        path: a file; or a folder with `model.safetensors`, with `model.safetensors.index.json` and
            its shards, or with any `*.safetensors`. An index beside `model.safetensors` belongs to
            an earlier save and is ignored.

    Raises:
        WeightsError: no safetensors files, a missing shard, a truncated or damaged file, or a
            tensor in two files or in another file than in the index.
    """

    def __init__(self, path: Path) -> None:
        self._entries: dict[str, _Entry] = {}
        self._bytes: dict[Path, np.memmap] = {}
        single = path / SINGLE_FILE
        if not path.is_dir() or single.is_file() or single.is_symlink():
            self._add_file(single if path.is_dir() else path)
            return
        index = _read_index(path)
        for file in _files(path, index):
            self._add_file(file)
        _check_index(path, index, self._entries)

    @property
    def files(self) -> tuple[Path, ...]:
        """Files of the checkpoint."""
        return tuple(self._bytes)

    def names(self) -> Collection[str]:
        """Names of all tensors."""
        return self._entries.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._entries[name].shape

    def dtype(self, name: str) -> np.dtype:
        """Dtype of a tensor.

        Raises:
            WeightsError: unsupported dtype, such as integers and 8-bit floats.
        """
        stored = self._entries[name].dtype
        if stored not in _DTYPES:
            raise WeightsError(
                f"{self.location(name)} has dtype {stored}; known: {', '.join(_DTYPES)}",
                hint="use a checkpoint that is not quantized, or a GGUF file",
            )
        return np.dtype(_DTYPES[stored])

    def read(self, name: str) -> np.ndarray:
        """A read-only view of the memory-mapped file."""
        entry, dtype = self._entries[name], self.dtype(name)
        mapped = self._bytes[entry.file]
        flat = np.frombuffer(mapped, dtype, count=entry.size, offset=entry.start)
        return flat.reshape(entry.shape)

    def location(self, name: str) -> str:
        """`tensor NAME in FILE`."""
        return f"tensor {name} in {self._entries[name].file}"

    def _add_file(self, file: Path) -> None:
        check_link(file)
        for name, entry in _read_header(file).items():
            if name in self._entries:
                raise WeightsError(
                    f"tensor {name} is in both {self._entries[name].file} and {file}",
                    hint="keep one of the two files",
                )
            self._entries[name] = entry
        self._bytes[file] = np.memmap(file, np.uint8, mode="r")


def _read_index(folder: Path) -> dict[str, str] | None:
    """Tensor name -> file name in the index, or None if the folder has no index."""
    path = folder / INDEX_FILE
    check_link(path)
    if not path.is_file():
        return None
    weight_map = read_json(path).get("weight_map")
    if not isinstance(weight_map, dict) or not all(
        isinstance(file, str) and file == Path(file).name for file in weight_map.values()
    ):
        raise WeightsError(
            f"{path} is not an index of safetensors files: its weight_map must map each tensor to "
            "a file in the same folder",
            hint=_DOWNLOAD_AGAIN,
        )
    return weight_map


def _files(folder: Path, index: dict[str, str] | None) -> list[Path]:
    """The safetensors files of a checkpoint without `model.safetensors`."""
    if index is None:
        files = sorted(f for f in folder.glob("*.safetensors") if f.name not in _OTHER_FILES)
    else:
        files = [folder / name for name in sorted(set(index.values()))]
    missing = [str(file) for file in files if not file.exists() and not file.is_symlink()]
    if missing:
        raise WeightsError(
            f"{folder / INDEX_FILE} names files that are missing: {', '.join(missing)}",
            hint="download the missing files into the same folder",
        )
    if not files:
        raise WeightsError(
            f"{folder} has no safetensors files",
            hint="give a folder with model.safetensors, or a .gguf file",
        )
    return files


def _read_header(file: Path) -> dict[str, _Entry]:
    """The tensors of a file, after the safetensors library has checked its format."""
    if not file.is_file():
        raise WeightsError(f"{file} is not a file", hint="give the folder of a complete checkpoint")
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} is truncated or damaged: {error}{_first_truncated_tensor(file)}",
            hint=_DOWNLOAD_AGAIN,
        ) from error
    data_start, header = _parse_header(file)
    return {
        name: _Entry(
            file=file,
            dtype=entry["dtype"],
            shape=tuple(entry["shape"]),
            start=data_start + entry["data_offsets"][0],
        )
        for name, entry in header.items()
    }


def _parse_header(file: Path) -> tuple[int, dict]:
    """Offset of the data in bytes, and the JSON header without its metadata."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_HEADER_LENGTH_BYTES), "little")
        header = json.loads(opened.read(min(length, file.stat().st_size)))
    header.pop("__metadata__", None)
    return _HEADER_LENGTH_BYTES + length, header


def _first_truncated_tensor(file: Path) -> str:
    """For the error about a damaged file: the first tensor with incomplete data."""
    size = file.stat().st_size
    if size < _HEADER_LENGTH_BYTES:
        return ""
    try:
        data_start, header = _parse_header(file)
        ends = {name: data_start + entry["data_offsets"][1] for name, entry in header.items()}
        truncated = [name for name, end in ends.items() if end > size]
        return f"; the first incomplete tensor is {min(truncated, key=ends.__getitem__)}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return ""  # no tensor is truncated, or the header is damaged


def _check_index(folder: Path, index: dict[str, str] | None, entries: dict[str, _Entry]) -> None:
    """Raises unless index and files have the same tensors in the same files."""
    if index is None:
        return
    wrong = sorted(
        name
        for name in index.keys() | entries.keys()
        if name not in entries or index.get(name) != entries[name].file.name
    )
    if wrong:
        raise WeightsError(
            f"{folder / INDEX_FILE} and the files differ in: {', '.join(wrong)}",
            hint="download the index and the files of one revision",
        )
