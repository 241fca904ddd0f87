"""Whether a checkpoint is what was saved: files, host arrays, checksums, and errors of reading."""

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import safetensors.numpy
from etils import epath

from t1_jax.errors import RetryableError

_DAMAGE = re.compile(r"(NOT_FOUND|DATA_LOSS|OUT_OF_RANGE):")
"""How TensorStore begins the errors of a file that is missing, changed or too short."""


def packed(
    host: Mapping[str, np.ndarray], meta: Mapping[str, Any], checksums: Mapping[str, int]
) -> dict[str, np.ndarray]:
    """Host arrays as one array of bytes, which keeps names, dtypes and empty arrays.

    With it are what `changes_since_saved` compares.
    """
    arrays = {name: np.array(array, order="C") for name, array in host.items()}
    checks = {"meta": json.dumps(meta), "checksums": json.dumps(checksums)}
    return {"packed": np.frombuffer(safetensors.numpy.save(arrays, checks), dtype=np.uint8)}


def unpacked(data: bytes) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """The host arrays, and what `changes_since_saved` compares; old checkpoints lack the latter."""
    header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    checks = {name: json.loads(text) for name, text in header.get("__metadata__", {}).items()}
    return safetensors.numpy.load(data), checks


def changes_since_saved(
    meta: Mapping[str, Any], state: Mapping[str, jax.Array], checks: Mapping[str, Any]
) -> str:
    """What differs from what was saved; empty if nothing does."""
    if not checks:
        return ""
    saved, found = checks["checksums"], checksums(state)
    same_meta = _sorted_json(checks["meta"]) == _sorted_json(meta)
    names = [] if same_meta else ["its metadata"]
    return ", ".join([*names, *(name for name in saved if saved[name] != found.get(name))][:5])


def _sorted_json(value: Any) -> str:
    return json.dumps(value, sort_keys=True)  # in which NaN equals NaN


def checksums(arrays: Mapping[str, jax.Array]) -> dict[str, int]:
    """Name -> sum of the bits of an array as integers, modulo 2**32: the same on every mesh."""
    return {name: int(value) for name, value in jax.device_get(_bit_sums(dict(arrays))).items()}


@jax.jit
def _bit_sums(arrays: dict[str, jax.Array]) -> dict[str, jax.Array]:
    def bit_sum(array: jax.Array) -> jax.Array:
        if array.dtype != jnp.bool_:
            array = jax.lax.bitcast_convert_type(array, f"uint{8 * array.dtype.itemsize}")
        return jnp.sum(array, dtype=jnp.uint32)

    return jax.tree.map(bit_sum, arrays)


def check_json(file: epath.Path) -> None:
    """Raises what is wrong with a file of JSON, for which Orbax returns nothing instead.

    Raises:
        FileNotFoundError: it is missing.
        ValueError: it is truncated or changed.
    """
    json.loads(file.read_bytes())


def is_file(path: epath.Path) -> bool:
    """Whether it is a file; unlike `Path.is_file`, never false because a bucket did not answer.

    Raises:
        RetryableError: the disk or the bucket did not answer.
    """
    try:
        return not path.stat().is_directory
    except (FileNotFoundError, NotADirectoryError):
        return False
    except Exception as error:  # those of a bucket's client have no common base class
        raise RetryableError(
            f"{path} could not be looked up: {first_line(error)}",
            hint="give the same command again; if this goes on, check this machine's access to it",
        ) from error


def causes(error: BaseException) -> Iterator[BaseException]:
    """An error and what caused it, the first cause last."""
    cause: BaseException | None = error
    while cause is not None:
        yield cause
        cause = cause.__cause__ or (None if cause.__suppress_context__ else cause.__context__)


def is_damage(error: BaseException) -> bool:
    """Whether an error proves that a file is missing, truncated or changed."""
    for cause in causes(error):
        if isinstance(cause, FileNotFoundError | UnicodeDecodeError | json.JSONDecodeError):
            return True
        if isinstance(cause, OSError | MemoryError | jax.errors.JaxRuntimeError):
            return False
        if isinstance(cause, ValueError) and _DAMAGE.match(str(cause)):
            return True
    return False


def first_line(error: BaseException) -> str:
    """The first line of its message, or its type if it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
