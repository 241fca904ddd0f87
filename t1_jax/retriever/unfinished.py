"""Long work that a kill may interrupt: its parts lie in `.NAME.parts`, beside the output NAME.

A lock has one holder at a time, and `settings.json` says what they were made with, so that
the same command goes on and another one does not mix into them.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from t1_jax.errors import T1Error
from t1_jax.files import write_atomically
from t1_jax.progress import shorten

_SETTINGS = "settings.json"
_VALUE_CHARACTERS = 60


@contextmanager
def parts_folder(output: Path, *, lock: str = "lock") -> Iterator[Path]:
    """The folder of the parts, which is made and locked; files named `lock...` are its locks.

    Raises:
        T1Error: another process holds the lock, or the disk cannot be written.
    """
    folder = parts_path(output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / lock, timeout=0):
            yield folder
    except Timeout as error:
        raise T1Error(
            f"another process is writing {output}", hint="wait for it, or choose another output"
        ) from error
    except OSError as error:
        raise T1Error(
            f"{folder} cannot be written: {error.strerror or error}",
            hint="free disk space or check permissions; the same command goes on from here",
        ) from error


def parts_path(output: Path) -> Path:
    """Where the parts of an output lie."""
    return output.with_name(f".{output.name}.parts")


def goes_on(folder: Path, settings: Mapping[str, Any], *, start_again: bool) -> bool:
    """Whether the folder has parts that were made with these settings, as JSON values.

    Raises:
        T1Error: they were made with other settings, and are not to be replaced (`start_again`).
    """
    file = folder / _SETTINGS
    if not file.exists():
        return False
    found, wanted = json.loads(file.read_bytes()), json.loads(json.dumps(settings))
    if found != wanted and not start_again:
        raise T1Error(
            f"{folder} was begun with other settings: " + "; ".join(_differences(found, wanted)),
            hint="use the same settings to go on, or add --overwrite to start again",
        )
    return found == wanted


def begin(folder: Path, settings: Mapping[str, Any]) -> None:
    """Removes all parts, and writes the settings of those to come."""
    (folder / _SETTINGS).unlink(missing_ok=True)
    for path in folder.iterdir():
        if not path.name.startswith("lock"):
            path.unlink()
    write_atomically(folder / _SETTINGS, json.dumps(settings, indent=2) + "\n")


def is_begun(folder: Path, settings: Mapping[str, Any] | None = None) -> bool:
    """Whether there are settings, and where some are given, these."""
    file = folder / _SETTINGS
    if not file.exists():
        return False
    return settings is None or json.loads(file.read_bytes()) == json.loads(json.dumps(settings))


def append_durably(path: Path, data: bytes) -> None:
    """Appends to a file; the data are on the disk when it returns."""
    with path.open("ab") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def _differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> Iterator[str]:
    """`temperature was 0.7 and is 1.0`, for each setting that differs."""
    for name in sorted(found.keys() | wanted.keys()):
        before, now = (
            shorten(json.dumps(values.get(name)), _VALUE_CHARACTERS) for values in (found, wanted)
        )
        if found.get(name) != wanted.get(name):
            yield f"{name} was {before} and is {now}"
