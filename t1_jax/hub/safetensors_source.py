"""Weights from a Hugging Face folder: one or many safetensors files, mapped into memory."""

import json
import math
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import ml_dtypes
import numpy as np
from safetensors import SafetensorError, safe_open

from t1_jax.errors import WeightsError

INDEX_FILE = "model.safetensors.index.json"
SINGLE_FILE = "model.safetensors"

_DTYPES = {"F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
_HEADER_LENGTH_BYTES = 8
_DOWNLOAD_AGAIN = "download the file again, and compare its sha256 with the publisher's"


@dataclass(frozen=True, kw_only=True)
class _Entry:
    """One tensor of one file; `start` counts bytes from the beginning of the file."""

    file: Path
    dtype: str
    shape: tuple[int, ...]
    start: int

    @property
    def size(self) -> int:
        return math.prod(self.shape)


class SafetensorsSource:
    """A `TensorSource` over the safetensors files of one folder.

    Args:
        folder: with `model.safetensors.index.json` and its shards, or `model.safetensors`, or any
            number of `*.safetensors`.

    Raises:
        WeightsError: no safetensors here, a shard missing, a file cut short or damaged, a tensor
            in two files or not where the index says, or of a dtype that is not F32, F16 or BF16.
    """

    def __init__(self, folder: Path) -> None:
        self._entries: dict[str, _Entry] = {}
        self._bytes: dict[Path, np.memmap] = {}
        index = _read_index(folder)
        for file in _files(folder, index):
            self._add_file(file)
        _check_index(folder, index, self._entries)

    def names(self) -> Collection[str]:
        """Every tensor's name."""
        return self._entries.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._entries[name].shape

    def dtype(self, name: str) -> np.dtype:
        """The tensor's dtype; refuses integers, 8-bit floats and the like.

        Raises:
            WeightsError: weights of this dtype are not read.
        """
        stored = self._entries[name].dtype
        if stored not in _DTYPES:
            raise WeightsError(
                f"{self.location(name)} has dtype {stored}; known: {', '.join(_DTYPES)}",
                mend="use a checkpoint that is not quantised, or a GGUF file",
            )
        return np.dtype(_DTYPES[stored])

    def read(self, name: str) -> np.ndarray:
        """A read-only view of the mapped file."""
        entry, dtype = self._entries[name], self.dtype(name)
        mapped = self._bytes[entry.file]
        flat = np.frombuffer(mapped, dtype, count=entry.size, offset=entry.start)
        return flat.reshape(entry.shape)

    def location(self, name: str) -> str:
        """`tensor NAME in FILE`."""
        return f"tensor {name} in {self._entries[name].file}"

    def _add_file(self, file: Path) -> None:
        for name, entry in _read_header(file).items():
            if name in self._entries:
                raise WeightsError(
                    f"tensor {name} is in both {self._entries[name].file} and {file}",
                    mend="keep one of the two files",
                )
            self._entries[name] = entry
        self._bytes[file] = np.memmap(file, np.uint8, mode="r")


def _read_index(folder: Path) -> dict[str, str] | None:
    """The index's tensor name -> file name, or None where a folder has no index."""
    path = folder / INDEX_FILE
    if not path.is_file():
        return None
    try:
        weight_map = json.loads(path.read_text(encoding="utf-8"))["weight_map"]
        return {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise WeightsError(
            f"{path} is not an index of safetensors files: {error!r}", mend=_DOWNLOAD_AGAIN
        ) from error


def _files(folder: Path, index: dict[str, str] | None) -> list[Path]:
    """The safetensors files that make up the checkpoint."""
    if index is not None:
        files = [folder / name for name in sorted(set(index.values()))]
    elif (folder / SINGLE_FILE).is_file():
        files = [folder / SINGLE_FILE]
    else:
        files = sorted(folder.glob("*.safetensors"))
    missing = [str(file) for file in files if not file.is_file()]
    if missing:
        raise WeightsError(
            f"{folder / INDEX_FILE} names files that are missing: {', '.join(missing)}",
            mend="download the missing files into the same folder",
        )
    if not files:
        raise WeightsError(
            f"{folder} has no safetensors files",
            mend="give a folder with model.safetensors, or a .gguf file",
        )
    return files


def _read_header(file: Path) -> dict[str, _Entry]:
    """The tensors of one file, after the safetensors library has checked its layout."""
    try:
        with safe_open(file, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise WeightsError(
            f"{file} is cut short or damaged: {error}{_first_tensor_cut(file)}",
            mend=_DOWNLOAD_AGAIN,
        ) from error
    data_start, header = _parse_header(file)
    return {
        name: _Entry(
            file=file,
            dtype=described["dtype"],
            shape=tuple(described["shape"]),
            start=data_start + described["data_offsets"][0],
        )
        for name, described in header.items()
    }


def _parse_header(file: Path) -> tuple[int, dict]:
    """Where the data starts, in bytes, and the JSON header without its metadata."""
    with file.open("rb") as opened:
        length = int.from_bytes(opened.read(_HEADER_LENGTH_BYTES), "little")
        header = json.loads(opened.read(min(length, file.stat().st_size)))
    header.pop("__metadata__", None)
    return _HEADER_LENGTH_BYTES + length, header


def _first_tensor_cut(file: Path) -> str:
    """For the message about a damaged file: the first tensor whose data is not all there."""
    size = file.stat().st_size
    if size < _HEADER_LENGTH_BYTES:
        return ""
    try:
        data_start, header = _parse_header(file)
        ends = {name: data_start + about["data_offsets"][1] for name, about in header.items()}
        cut = [name for name, end in ends.items() if end > size]
        return f"; the first tensor that is not all there is {min(cut, key=ends.__getitem__)}"
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
        return ""  # nothing is cut, or the header itself is damaged


def _check_index(folder: Path, index: dict[str, str] | None, entries: dict[str, _Entry]) -> None:
    """Refuses an index that names a tensor its file lacks, or files with tensors it leaves out."""
    if index is None:
        return
    wrong = sorted(
        name
        for name in index.keys() | entries.keys()
        if name not in entries or index.get(name) != entries[name].file.name
    )
    if wrong:
        raise WeightsError(
            f"{folder / INDEX_FILE} and the files disagree about: {', '.join(wrong)}",
            mend="download the index and the files of one revision",
        )
