"""Runs in a bucket: `output=gs://BUCKET/RUN`, for machines that share no disk.

Orbax reads and writes the checkpoints there. All other files of the run are written to a local copy
of the run folder and uploaded at every checkpoint and export; a new machine downloads them first.
"""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import jax
from etils import epath

from t1_jax.errors import T1Error, UnsupportedError
from t1_jax.files import write_atomically
from t1_jax.hub import cache_folder
from t1_jax.train.infra.stopping import any_process

_SCHEME = "gs:"
_CHECKPOINTS = "checkpoints"
_LOG = ".jsonl"
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
    """Makes the local copy of a run in a bucket hold its files, without weights, and no others.

    A log of which the bucket has the beginning stays: its upload failed. Does nothing for a local
    run folder. All processes call it, each for its own copy.

    Raises:
        T1Error: the bucket cannot be read.
    """
    bucket, local = bucket_of(output), local_folder(output)
    if bucket is None:
        return
    with _named(bucket, "read"):
        files = {path: file for file, path in _files(bucket)}
        contents = {
            path: file.read_bytes() for path, file in files.items() if path.suffix != _LARGE
        }
    for path, content in contents.items():
        if path.suffix == _LOG and (local / path).is_file():
            found = (local / path).read_bytes()
            contents[path] = found if found.startswith(content) else content
    if local.exists():
        shutil.rmtree(local)
    for path in files:
        (local / path).parent.mkdir(parents=True, exist_ok=True)
        if path in contents:
            write_atomically(local / path, contents[path])


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
        """Uploads the files that changed since the last time: those of process 0.

        All processes call it together.

        Raises:
            T1Error: the bucket cannot be written; on all processes.
        """
        if self._bucket is None:
            return
        failure = None
        if jax.process_index() == 0:
            try:
                self._upload(self._bucket)
            except T1Error as error:
                failure = error
        if any_process(failure is not None):
            raise failure or T1Error(f"process 0 could not write {self._bucket}")

    def _upload(self, bucket: epath.Path) -> None:
        with _named(bucket, "written"):
            for file, path in _files(epath.Path(self._local)):
                stamp = _stamp(Path(file))
                if self._uploaded.get(path) != stamp:
                    target = bucket / path
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
