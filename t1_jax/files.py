"""Writing files so that nothing half written is ever taken for complete, and hashing them."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from t1_jax.errors import T1Error


def sha256_of(path: Path, chunk_bytes: int = 1 << 22) -> str:
    """Hex SHA-256 of a file's bytes, read `chunk_bytes` at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


def check_target(folder: Path, *, overwrite: bool = False) -> None:
    """Refuses a target folder before hours of work are done for it.

    Raises:
        T1Error: it is not empty and may not be overwritten, or cannot be made where it is asked
            for.
    """
    if not overwrite and folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise T1Error(
            f"{folder} already exists and is not empty",
            mend="choose another folder, or pass --overwrite to replace it",
        )
    parent = next(path for path in folder.absolute().parents if path.exists())
    if not parent.is_dir() or not os.access(parent, os.W_OK):
        raise T1Error(
            f"{folder} cannot be made: {parent} is {'read-only' if parent.is_dir() else 'a file'}",
            mend="choose a folder that you may write to",
        )


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty sibling folder that becomes `target` only if the block succeeds.

    Raises:
        T1Error: `target` exists and is not an empty folder (unless `overwrite`), or the disk
            refused the data; in both cases whatever stood at `target` before still stands there.
    """
    target = Path(target)
    check_target(target, overwrite=overwrite)
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        scratch.chmod(0o755)
        yield scratch
        replace_folder(scratch, target)
    except OSError as error:
        raise T1Error(
            f"{target} could not be written: {error.strerror or error}",
            mend="free disk space or check permissions, then run the command again",
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


def replace_folder(scratch: Path, target: Path) -> None:
    """Moves `scratch` to `target`; an older `target` is set aside first and restored on failure."""
    if not target.exists():
        scratch.rename(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.old.", dir=target.parent))
    target.rename(aside / "folder")
    try:
        scratch.rename(target)
    except OSError:
        (aside / "folder").rename(target)
        raise
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def write_atomically(target: Path, content: str | bytes) -> None:
    """Writes `content` to `target` in one rename; text is encoded as UTF-8.

    Raises:
        T1Error: the disk refused the data; a previous file at `target` is left as it was.
    """
    target = Path(target)
    data = content.encode() if isinstance(content, str) else content
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        scratch = Path(name)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        scratch.chmod(0o644)
        scratch.replace(target)
    except OSError as error:
        raise T1Error(
            f"{target} could not be written: {error.strerror or error}",
            mend="free disk space or check permissions, then run the command again",
        ) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)
