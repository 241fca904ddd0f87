"""Runs in a bucket: `output=gs://BUCKET/RUN`, for machines that share no disk.

Orbax reads and writes the checkpoints there. All other files of the run are written to a local copy
of the run folder and uploaded at every checkpoint and export; a new machine downloads them first.
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import jax
from etils import epath

from t1_jax.errors import T1Error, UnsupportedError
from t1_jax.files import write_atomically
from t1_jax.hub import cache_folder

_SCHEME = "gs:"
_CHECKPOINTS = "checkpoints"
_LARGE = ".safetensors"
"""Exported weights, which a run does not read again."""


def bucket_of(output: Path) -> epath.Path | None:
    """The run folder in a bucket; None for a local one. `Path` has one of the slashes of `gs://`.

    Raises:
        UnsupportedError: gcsfs is not installed.
    """
    if output.parts[:1] != (_SCHEME,):
        return None
    if find_spec("gcsfs") is None:
        raise UnsupportedError(
            f"{_url(output)} is in a bucket, and gcsfs is not installed",
            hint="install the extra: pip install 't1_jax[gcs]'",
        )
    return epath.Path(_url(output))


def _url(output: Path) -> str:
    return f"{_SCHEME}//{'/'.join(output.parts[1:])}"


def checkpoint_folder(output: Path) -> epath.Path:
    """Where the checkpoints of a run are."""
    return (bucket_of(output) or epath.Path(output.resolve())) / _CHECKPOINTS


def local_folder(output: Path) -> Path:
    """The run folder, or its local copy. Each process has its own copy of one in a bucket."""
    if bucket_of(output) is None:
        return output
    key = hashlib.sha256(_url(output).encode()).hexdigest()[:16]
    process = f"process-{jax.process_index()}"
    return cache_folder() / "runs" / key / process / output.name


def download_run(output: Path) -> None:
    """Copies the files of a run in a bucket to its local copy, but no weights.

    Does nothing for a local run folder. All processes call it, each for its own copy.

    Raises:
        T1Error: the bucket cannot be read.
    """
    bucket, local = bucket_of(output), local_folder(output)
    if bucket is None:
        return
    with _named(bucket, "read"):
        for file, path in _files(bucket):
            if path.suffix == _LARGE:
                (local / path).parent.mkdir(parents=True, exist_ok=True)
            else:
                write_atomically(local / path, file.read_bytes())


class BucketCopy:
    """Uploads the files of a run that change; does nothing for a local run folder.

    Args:
        output: the run folder.
    """

    def __init__(self, output: Path) -> None:
        self._bucket = bucket_of(output)
        self._local = local_folder(output)
        self._uploaded: dict[Path, tuple[int, int]] = {}

    def upload(self) -> None:
        """Uploads the files that changed since the last time; process 0 alone writes them.

        Raises:
            T1Error: the bucket cannot be written.
        """
        if self._bucket is None or jax.process_index() != 0:
            return
        with _named(self._bucket, "written"):
            for file, path in _files(epath.Path(self._local)):
                stamp = _stamp(Path(file))
                if self._uploaded.get(path) != stamp:
                    target = self._bucket / path
                    target.parent.mkdir(parents=True, exist_ok=True)
                    file.copy(target, overwrite=True)
                    self._uploaded[path] = stamp


def _files(folder: epath.Path, within: Path = Path()) -> Iterator[tuple[epath.Path, Path]]:
    """All files but checkpoints and hidden ones, with their paths in the folder."""
    if not folder.exists():
        return
    for path in folder.iterdir():
        if path.name.startswith(".") or path.name == _CHECKPOINTS:
            continue
        if path.is_dir():
            yield from _files(path, within / path.name)
        else:
            yield path, within / path.name


def _stamp(file: Path) -> tuple[int, int]:
    status = os.stat(file)
    return status.st_size, status.st_mtime_ns


@contextmanager
def _named(bucket: epath.Path, what: str) -> Iterator[None]:
    """Names the bucket in errors; those of the client have no common base class."""
    try:
        yield
    except T1Error:
        raise
    except Exception as error:
        raise T1Error(
            f"{bucket} could not be {what}: {type(error).__name__}: {error}",
            hint="check its name and this machine's access to it (gcloud auth "
            "application-default login), then run the command again",
        ) from error
