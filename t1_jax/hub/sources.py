"""What every source of weights offers: tensors under Hugging Face names, read one at a time."""

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from t1_jax.errors import WeightsError

# The names that Hugging Face configs and safetensors use for the dtypes weights are stored in.
STORED_DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}


EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
_MOST_NAMED = 20
_VALUES_AT_ONCE = 1 << 22


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


class RenamedSource:
    """A `TensorSource` whose tensors go by other names.

    Args:
        source: the tensors.
        stored: new name -> name in `source`.
    """

    def __init__(self, source: TensorSource, stored: Mapping[str, str]) -> None:
        self._source, self._stored = source, stored

    def names(self) -> Collection[str]:
        """Every tensor's new name."""
        return self._stored.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """The tensor's shape."""
        return self._source.shape(self._stored[name])

    def dtype(self, name: str) -> np.dtype:
        """The tensor's dtype."""
        return self._source.dtype(self._stored[name])

    def read(self, name: str) -> np.ndarray:
        """The tensor's values."""
        return self._source.read(self._stored[name])

    def location(self, name: str) -> str:
        """Where it lies, by the name it has there."""
        return self._source.location(self._stored[name])


def as_causal_lm(source: TensorSource, *, tied: bool) -> TensorSource:
    """The names that the causal language model's class has, whatever class saved the checkpoint.

    As transformers loads them: a model saved without its head (Qwen3Model, and every save of
    sentence-transformers) lacks the prefix `model.`, and where head and embedding are one tensor it
    may be stored under either name.

    Args:
        source: the tensors as they are stored.
        tied: whether the head is the embedding table.
    """
    names = source.names()
    prefix = "" if any(name.startswith("model.") for name in names) else "model."
    stored = {name if name == HEAD else prefix + name: name for name in names}
    if tied and HEAD in stored and EMBEDDING not in stored:
        stored[EMBEDDING] = stored.pop(HEAD)
    is_renamed = any(new != old for new, old in stored.items())
    return RenamedSource(source, stored) if is_renamed else source


class CheckedCast:
    """Casts tensors to a dtype, and remembers those with values that are not finite in it.

    The only way in which weights change their dtype, on loading and on writing: a value beyond the
    range of the dtype (65,504 for float16) would otherwise become infinite silently.

    Args:
        dtype: to cast to.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = np.dtype(dtype)
        self._misfits: list[str] = []

    def narrows(self, stored: np.dtype) -> bool:
        """Whether there are finite values of `stored` that the dtype cannot hold."""
        return _reach(stored) > _reach(self._dtype)

    def check(self, values: np.ndarray, where: str) -> None:
        """Notes `where` if a value of the tensor is not finite in the dtype."""
        if not _fits(values, self._dtype):
            self._misfits.append(where)

    def cast(self, values: np.ndarray, where: str) -> np.ndarray:
        """The tensor in the dtype, checked."""
        self.check(values, where)
        with np.errstate(over="ignore"):
            return values.astype(self._dtype, copy=False)

    def refuse_misfits(self) -> None:
        """To be called after the last tensor.

        Raises:
            WeightsError: tensors did not fit; names them, the first twenty of very many.
        """
        if not self._misfits:
            return
        named = "\n  ".join(self._misfits[:_MOST_NAMED])
        more = len(self._misfits) - _MOST_NAMED
        raise WeightsError(
            f"{len(self._misfits)} tensors have values that are not finite in {self._dtype.name} "
            f"(its range ends at {_reach(self._dtype):.6g}):\n  {named}"
            + (f"\n  and {more} more" if more > 0 else ""),
            hint="choose a dtype with a wider range: bfloat16 or float32",
        )


def _reach(dtype: np.dtype) -> float:
    """The largest finite value."""
    return float(ml_dtypes.finfo(dtype).max)


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    """Whether every value is finite in `dtype`; rounding keeps order, so the extremes tell."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, _VALUES_AT_ONCE):
        block = flat[start : start + _VALUES_AT_ONCE].astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            extremes = np.stack([block.min(), block.max()]).astype(dtype)
        if not np.isfinite(extremes).all():
            return False
    return True
