"""What every source of weights offers: tensors under Hugging Face names, read one at a time."""

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import ml_dtypes
import numpy as np

# The names that Hugging Face configs and safetensors use for the dtypes weights are stored in.
STORED_DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


@runtime_checkable
class TensorSource(Protocol):
    """Named tensors of one checkpoint.

    `read` may return a view of a mapped file: a caller that takes a slice of it touches only the
    pages of that slice, and one that keeps it should copy it.
    """

    def names(self) -> Collection[str]:
        """Every tensor, under its Hugging Face name."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """The shape that `read` will return."""
        ...

    def dtype(self, name: str) -> np.dtype:
        """The dtype that `read` will return; bfloat16 is that of `ml_dtypes`."""
        ...

    def read(self, name: str) -> np.ndarray:
        """The tensor's values, read-only."""
        ...

    def location(self, name: str) -> str:
        """Where the tensor lies, for messages: the file, and its name there."""
        ...


def stored_dtype(source: TensorSource) -> str:
    """The narrowest dtype name that holds every tensor of `source` exactly."""
    found = {source.dtype(name) for name in source.names()}
    for name, dtype in STORED_DTYPES.items():
        if found == {dtype}:
            return name
    return "float32"
