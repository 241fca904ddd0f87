"""The header of a GGUF file: metadata, and the position of each tensor.

The reader of the `gguf` package loops for up to 2^60 steps on a wrong array length and takes
seconds for a large vocabulary. This reader checks every length against the file's size; `gguf`
only decodes the block formats.
"""

import math
import mmap
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from gguf.constants import (
    GGML_QUANT_SIZES,
    GGUF_DEFAULT_ALIGNMENT,
    GGMLQuantizationType,
    GGUFValueType,
)

from t1_jax.errors import WeightsError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_MAX_DIMENSIONS = 4
_DOWNLOAD_AGAIN = "download the file again, and compare its sha256 with the publisher's"

# The letter of each scalar type in `struct`.
_SCALARS = {
    GGUFValueType.UINT8: "B", GGUFValueType.UINT16: "H", GGUFValueType.UINT32: "I",
    GGUFValueType.INT8: "b", GGUFValueType.INT16: "h", GGUFValueType.INT32: "i",
    GGUFValueType.UINT64: "Q", GGUFValueType.FLOAT32: "f", GGUFValueType.BOOL: "?",
    GGUFValueType.INT64: "q", GGUFValueType.FLOAT64: "d",
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class GGUFTensor:
    """A stored tensor.

    Attributes:
        shape: shape of the values, slowest dimension first (GGUF stores the fastest first).
        kind: block format.
        start: offset from the beginning of the file, in bytes.
        n_bytes: size of the stored blocks, in bytes.
    """

    shape: tuple[int, ...]
    kind: GGMLQuantizationType
    start: int
    n_bytes: int


@dataclass(frozen=True, kw_only=True)
class GGUFFile:
    """A GGUF file with a valid header whose tensors are all inside the file."""

    path: Path
    metadata: dict[str, object]
    tensors: dict[str, GGUFTensor]


def read_gguf(path: Path) -> GGUFFile:
    """Reads the header of a little-endian GGUF file, version 2 or 3.

    Raises:
        WeightsError: not a GGUF file, unknown version, truncated or damaged; names the byte or the
            tensor.
    """
    with path.open("rb") as file:
        if file.read(len(_MAGIC)) != _MAGIC:
            raise WeightsError(
                f"{path} is not a GGUF file: it does not begin with GGUF",
                hint="give a .gguf file, or a folder with config.json and safetensors",
            )
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
            return _read_header(_Cursor(path, content))


def _read_header(cursor: "_Cursor") -> GGUFFile:
    """Everything before the tensor data, checked."""
    path = cursor.path
    cursor.numbers("s", len(_MAGIC))
    version = cursor.number("I")
    if version not in _VERSIONS:
        raise WeightsError(
            f"{path} is GGUF version {version}; known: {', '.join(map(str, _VERSIONS))}",
            hint="convert the model again with a current llama.cpp, little-endian",
        )
    n_tensors, n_fields = cursor.count(least_bytes=1), cursor.count(least_bytes=1)
    metadata = {cursor.text(): cursor.value(cursor.value_type()) for _ in range(n_fields)}
    described = [(cursor.text(), *cursor.tensor_info()) for _ in range(n_tensors)]
    alignment = metadata.get("general.alignment", GGUF_DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment <= 0:
        raise cursor.damaged(f"general.alignment is {alignment!r}")
    data_start = -(-cursor.at // alignment) * alignment
    tensors: dict[str, GGUFTensor] = {}
    for name, shape, kind, offset in described:
        if name in tensors:
            raise WeightsError(f"{path} contains tensor {name} twice", hint=_DOWNLOAD_AGAIN)
        tensors[name] = _located(path, cursor.size, name, shape, kind, data_start + offset)
    return GGUFFile(path=path, metadata=metadata, tensors=tensors)


def _located(
    path: Path, file_size: int, name: str, shape: tuple[int, ...], kind_id: int, start: int
) -> GGUFTensor:
    """A tensor, checked against the size of the file."""
    try:
        kind = GGMLQuantizationType(kind_id)
    except ValueError as error:
        raise WeightsError(
            f"{path}: tensor {name} has the unknown block format {kind_id}", hint=_DOWNLOAD_AGAIN
        ) from error
    block, block_bytes = GGML_QUANT_SIZES[kind]
    if not shape or shape[-1] % block:
        raise WeightsError(
            f"{path}: tensor {name} has shape {shape}, which is not divisible into {kind.name} "
            f"blocks of {block}",
            hint=_DOWNLOAD_AGAIN,
        )
    n_bytes = math.prod(shape) // block * block_bytes
    if start + n_bytes > file_size:
        raise WeightsError(
            f"{path} is truncated or damaged: tensor {name} ends at byte {start + n_bytes} "
            f"of {file_size}",
            hint=_DOWNLOAD_AGAIN,
        )
    return GGUFTensor(shape=shape, kind=kind, start=start, n_bytes=n_bytes)


class _Cursor:
    """Reads the bytes of a file in order, with checks against its size."""

    def __init__(self, path: Path, content: mmap.mmap) -> None:
        self.path = path
        self.size = path.stat().st_size
        self.at = 0
        self._content = content

    def damaged(self, why: str) -> WeightsError:
        return WeightsError(
            f"{self.path} is truncated or damaged at byte {self.at}: {why}", hint=_DOWNLOAD_AGAIN
        )

    def numbers(self, letter: str, count: int = 1) -> tuple[Any, ...]:
        layout = struct.Struct(f"<{count}{letter}")
        self._need(layout.size)
        start, self.at = self.at, self.at + layout.size
        return layout.unpack_from(self._content, start)

    def number(self, letter: str) -> Any:
        return self.numbers(letter)[0]

    def count(self, *, least_bytes: int) -> int:
        """Reads a number of items; each needs at least `least_bytes` of the remaining file."""
        count = self.number("Q")
        self._need(count * least_bytes)
        return count

    def text(self) -> str:
        length = self.count(least_bytes=1)
        raw = self.numbers("s", length)[0] if length else b""
        try:
            return raw.decode("utf-8")
        except UnicodeDecodeError as error:
            raise self.damaged("a text is not UTF-8") from error

    def value_type(self) -> GGUFValueType:
        number = self.number("I")
        try:
            return GGUFValueType(number)
        except ValueError as error:
            raise self.damaged(f"unknown metadata type {number}") from error

    def value(self, kind: GGUFValueType) -> object:
        if kind == GGUFValueType.STRING:
            return self.text()
        if kind != GGUFValueType.ARRAY:
            return self.number(_SCALARS[kind])
        item = self.value_type()
        if item == GGUFValueType.ARRAY:
            raise self.damaged("nested arrays are not supported")
        if item == GGUFValueType.STRING:
            return [self.text() for _ in range(self.count(least_bytes=8))]
        letter = _SCALARS[item]
        return list(self.numbers(letter, self.count(least_bytes=struct.calcsize(f"<{letter}"))))

    def tensor_info(self) -> tuple[tuple[int, ...], int, int]:
        """Shape (slowest dimension first), number of the block format, and offset in bytes."""
        n_dimensions = self.number("I")
        if n_dimensions > _MAX_DIMENSIONS:
            raise self.damaged(f"a tensor has {n_dimensions} dimensions")
        shape = tuple(reversed(self.numbers("Q", n_dimensions)))
        return shape, self.number("I"), self.number("Q")

    def _need(self, n_bytes: int) -> None:
        if n_bytes > self.size - self.at:
            raise self.damaged(f"{n_bytes} more bytes expected, the file has {self.size}")
