"""The protocol of weight sources: tensors by Hugging Face name, read one at a time; and casts."""

from collections.abc import Collection, Mapping
from typing import Protocol, runtime_checkable

import ml_dtypes
import numpy as np

from t1_jax.errors import WeightsError

# Dtypes of stored weights, by their names in Hugging Face configs.
STORED_DTYPES: Mapping[str, np.dtype] = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
EMBEDDING = "model.embed_tokens.weight"
HEAD = "lm_head.weight"
_MAX_NAMED = 20
_BLOCK_VALUES = 1 << 22


@runtime_checkable
class TensorSource(Protocol):
    """Named tensors of a checkpoint.

    `read` may return a view of a memory-mapped file: reading a slice loads only its pages, and a
    caller that keeps the array should copy it.
    """

    def names(self) -> Collection[str]:
        """Hugging Face names of all tensors."""
        ...

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of the array from `read`."""
        ...

    def dtype(self, name: str) -> np.dtype:
        """Dtype of the array from `read`; bfloat16 is that of `ml_dtypes`."""
        ...

    def read(self, name: str) -> np.ndarray:
        """Values of a tensor, read-only."""
        ...

    def location(self, name: str) -> str:
        """File and stored name of a tensor, for error messages."""
        ...


def stored_dtype(source: TensorSource) -> str:
    """Name of the narrowest dtype that represents every tensor of `source` exactly."""
    dtypes = {source.dtype(name) for name in source.names()}
    for name, dtype in STORED_DTYPES.items():
        if dtypes == {dtype}:
            return name
    return "float32"


class RenamedSource:
    """A `TensorSource` with renamed tensors; `stored` is new name -> name in `source`."""

    def __init__(self, source: TensorSource, stored: Mapping[str, str]) -> None:
        self._source, self._stored = source, stored

    def names(self) -> Collection[str]:
        """New names of all tensors."""
        return self._stored.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor."""
        return self._source.shape(self._stored[name])

    def dtype(self, name: str) -> np.dtype:
        """Dtype of a tensor."""
        return self._source.dtype(self._stored[name])

    def read(self, name: str) -> np.ndarray:
        """Values of a tensor."""
        return self._source.read(self._stored[name])

    def location(self, name: str) -> str:
        """File and stored name of a tensor."""
        return self._source.location(self._stored[name])


def as_causal_lm(source: TensorSource, *, tied: bool) -> TensorSource:
    """A source with the names of the causal language model's class, as transformers loads it.

    Names in a model that was saved without its head (Qwen3Model, and every save of
    sentence-transformers) lack the prefix `model.`, and a tied embedding may be stored under the
    name of the head.
    """
    names = source.names()
    prefix = "" if any(name.startswith("model.") for name in names) else "model."
    stored = {name if name == HEAD else prefix + name: name for name in names}
    if tied and HEAD in stored and EMBEDDING not in stored:
        stored[EMBEDDING] = stored.pop(HEAD)
    is_renamed = any(new != old for new, old in stored.items())
    return RenamedSource(source, stored) if is_renamed else source


class CheckedCast:
    """Casts tensors to a dtype, and collects those with values that are not finite in it.

    Every change of dtype, on import and export, uses it: otherwise a value beyond the range of the
    dtype (65,504 for float16) would silently become infinite.
    """

    def __init__(self, dtype: np.dtype) -> None:
        self._dtype = np.dtype(dtype)
        self._overflows: list[str] = []

    def can_overflow(self, stored: np.dtype) -> bool:
        """Whether finite values of the dtype `stored` can overflow."""
        return _max_finite(stored) > _max_finite(self._dtype)

    def check(self, values: np.ndarray, location: str) -> None:
        """Records `location` if a value is not finite in the target dtype."""
        if not _fits(values, self._dtype):
            self._overflows.append(location)

    def cast(self, values: np.ndarray, location: str) -> np.ndarray:
        """The values in the target dtype; records `location` as `check` does."""
        self.check(values, location)
        with np.errstate(over="ignore"):
            return values.astype(self._dtype, copy=False)

    def raise_on_overflow(self) -> None:
        """Raises if a recorded tensor overflowed; call it after the last tensor.

        Raises:
            WeightsError: names up to twenty tensors.
        """
        if not self._overflows:
            return
        named = "\n  ".join(self._overflows[:_MAX_NAMED])
        more = len(self._overflows) - _MAX_NAMED
        raise WeightsError(
            f"{len(self._overflows)} tensors have values that are not finite in {self._dtype.name} "
            f"(largest value {_max_finite(self._dtype):.6g}):\n  {named}"
            + (f"\n  and {more} more" if more > 0 else ""),
            hint="choose a dtype with a wider range: bfloat16 or float32",
        )


def _max_finite(dtype: np.dtype) -> float:
    return float(ml_dtypes.finfo(dtype).max)


def _fits(values: np.ndarray, dtype: np.dtype) -> bool:
    """Whether every value is finite in `dtype`; rounding is monotonic, so extremes suffice."""
    flat = values.reshape(-1)
    for start in range(0, flat.size, _BLOCK_VALUES):
        block = flat[start : start + _BLOCK_VALUES].astype(np.float32, copy=False)
        with np.errstate(over="ignore"):
            extremes = np.stack([block.min(), block.max()]).astype(dtype)
        if not np.isfinite(extremes).all():
            return False
    return True
