"""Which errors of reading prove that a checkpoint is damaged."""

import errno
import json

import jax
import pytest

from t1_jax.train.infra.integrity import is_damage


def raised(outer: Exception, cause: Exception) -> Exception:
    try:
        raise outer from cause
    except type(outer) as error:
        return error


@pytest.mark.parametrize(
    ("cause", "damaged"),
    [
        (FileNotFoundError(errno.ENOENT, "No such file"), True),
        (json.JSONDecodeError("Expecting value", "{", 1), True),
        (ValueError("DATA_LOSS: CRC-32C checksum verification failed"), True),
        (ValueError("OUT_OF_RANGE: Requested byte range is not valid"), True),
        (OSError(errno.EIO, "Input/output error"), False),
        (PermissionError("Forbidden: gs://bucket"), False),
        (TimeoutError(), False),
        (MemoryError(), False),
        (jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory"), False),
        (ValueError("DEADLINE_EXCEEDED: Error reading gs://bucket"), False),
        (KeyError("state"), False),
    ],
)
def test_only_missing_short_and_changed_files_are_damage(cause: Exception, damaged: bool) -> None:
    assert is_damage(cause) == damaged
    assert is_damage(raised(KeyError("of Orbax"), cause)) == damaged


def test_a_file_that_was_looked_for_before_memory_ran_out_is_no_evidence() -> None:
    error = MemoryError()
    error.__context__ = FileNotFoundError("an optional file")
    assert not is_damage(error)
