"""Files: reading of text, atomic writes, and hashes."""

import codecs
import ctypes
import glob
import gzip
import hashlib
import os
import shutil
import sys
import tempfile
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from t1_jax.errors import DataError, T1Error

if sys.platform != "win32":
    import fcntl

RESOURCES = Path(__file__).parent / "resources"
"""Files that come with the package: the recipes in `configs`, and the adapters in `models`."""


def read_text(path: Path) -> str:
    """The text of a UTF-8 file, without a byte order mark.

    Raises:
        OSError: the file cannot be read.
        UnicodeDecodeError: the file is not UTF-8.
    """
    return path.read_text(encoding="utf-8-sig")


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """Yields number (from 1) and text of each line; decompresses `.gz`, `-` is standard input.

    Raises:
        DataError: the file cannot be read or decompressed, or a line is not UTF-8.
    """
    if str(path) == "-":
        yield from decode_lines(sys.stdin.buffer, "standard input")
        return
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            yield from decode_lines(file, str(path))
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(
            f"{path} cannot be decompressed: {error}", hint="get the file again"
        ) from error
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}") from error


def decode_lines(file: Iterable[bytes], name: str) -> Iterator[tuple[int, str]]:
    """Yields number (from 1) and text of each line, without line end and byte order mark.

    Args:
        file: lines as bytes.
        name: name of the file in errors.

    Raises:
        DataError: a line is not UTF-8.
    """
    for number, raw in enumerate(file, 1):
        line = raw.removeprefix(codecs.BOM_UTF8) if number == 1 else raw
        try:
            yield number, line.decode().rstrip("\r\n")
        except UnicodeDecodeError as error:
            raise DataError(
                f"{name}:{number}: byte {error.start} of the line is not UTF-8",
                hint="save the file as UTF-8",
            ) from error


def sha256_of(path: Path, chunk_bytes: int = 1 << 22) -> str:
    """Hex SHA-256 of a file; reads `chunk_bytes` at a time."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(chunk_bytes):
            digest.update(chunk)
    return digest.hexdigest()


@contextmanager
def atomic_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """Yields an empty sibling folder that replaces `target` if the block succeeds.

    Folders of processes that were killed are removed.

    Raises:
        T1Error: `target` exists and is not an empty folder (unless `overwrite`), or the write
            failed; in both cases the previous `target` is unchanged.
    """
    target = Path(target)
    check_new_folder(target, overwrite=overwrite)
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        for folder in target.parent.glob(f".{glob.escape(target.name)}.new.*"):
            with _locked(folder) as is_ours:
                if is_ours:
                    shutil.rmtree(folder, ignore_errors=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{target.name}.new.", dir=target.parent))
        scratch.chmod(0o755)
        with _locked(scratch):
            yield scratch
            replace_folder(scratch, target)
    except OSError as error:
        raise T1Error(
            f"{target} could not be written: {error.strerror or error}",
            hint="free disk space or check permissions, then run the command again",
        ) from error
    finally:
        if scratch is not None:
            shutil.rmtree(scratch, ignore_errors=True)


@contextmanager
def _locked(folder: Path) -> Iterator[bool]:
    """Locks a folder as long as the process lives; whether no other process has locked it."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # it is gone, or the system cannot open folders
        yield False
        return
    try:
        yield _flock(descriptor)
    finally:
        os.close(descriptor)


def _flock(descriptor: int) -> bool:
    """Whether no other process has locked what was opened."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def replace_folder(scratch: Path, target: Path) -> None:
    """Moves `scratch` to `target`; a previous `target` is restored on failure.

    On Linux both change places in one step, so that a kill at any moment leaves one of them there.
    """
    if target.is_symlink() and not target.exists():
        target.unlink()  # a broken link
    if not target.exists():
        scratch.rename(target)
        return
    if not target.is_symlink() and _exchange(scratch, target):
        shutil.rmtree(scratch, ignore_errors=True)
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


def _exchange(one: Path, other: Path) -> bool:
    """Exchanges two paths in one step (renameat2); False where the system cannot."""
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return function(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """A path beside `target`; the file that the block writes there replaces `target` in one rename.

    Raises:
        T1Error: the write failed; a previous file at `target` is unchanged.
    """
    target = Path(target)
    scratch: Path | None = None
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
        scratch = Path(name)
        yield scratch
        scratch.chmod(0o644)
        scratch.replace(target)
    except OSError as error:
        raise T1Error(
            f"{target} could not be written: {error.strerror or error}",
            hint="free disk space or check permissions, then run the command again",
        ) from error
    finally:
        if scratch is not None:
            scratch.unlink(missing_ok=True)


def write_atomically(target: Path, content: str | bytes) -> None:
    """Writes `content` to `target` in one rename; text is encoded as UTF-8.

    Raises:
        T1Error: the write failed; a previous file at `target` is unchanged.
    """
    with replacing(target) as scratch:
        scratch.write_bytes(content.encode() if isinstance(content, str) else content)


def check_new_folder(target: Path, *, overwrite: bool) -> None:
    """Raises if `atomic_folder` cannot write a folder; call it before expensive work.

    Raises:
        T1Error: `target` is a file, is not empty (without `overwrite`), or cannot be created.
    """
    target = Path(target)
    with _readable(target):
        if target.is_file():
            raise T1Error(f"{target} is a file, not a folder", hint="choose another folder")
        if not overwrite and target.exists() and any(target.iterdir()):
            raise T1Error(
                f"{target} already exists and is not empty",
                hint="choose another folder, or pass --overwrite to replace it",
            )
        _check_writable_parent(target)


def check_new_file(target: Path, *, overwrite: bool) -> None:
    """Raises if `write_atomically` cannot write a file; call it before expensive work.

    Raises:
        T1Error: `target` is a folder, exists (without `overwrite`), or cannot be created.
    """
    target = Path(target)
    with _readable(target):
        if target.is_dir():
            raise T1Error(f"{target} is a folder, not a file", hint="add a file name to it")
        if not overwrite and target.exists():
            raise T1Error(f"{target} already exists", hint="choose another, or pass --overwrite")
        _check_writable_parent(target)


@contextmanager
def _readable(target: Path) -> Iterator[None]:
    """Converts system errors about a path (too long, no permission) to T1Error."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            os.lstat(target)
        yield
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else str(error)
        raise T1Error(
            f"{target} cannot be written: {reason}", hint="choose another path"
        ) from error


def _check_writable_parent(target: Path) -> None:
    """Raises unless the closest existing parent of `target` is a writable folder."""
    parent = next((path for path in target.absolute().parents if os.path.lexists(path)), None)
    if parent is None or not parent.is_dir():
        raise T1Error(
            f"{target} cannot be written: {parent} is not a folder", hint="choose another path"
        )
    if not os.access(parent, os.W_OK | os.X_OK):
        raise T1Error(
            f"{target} cannot be written: no permission to write in {parent}",
            hint="choose another path, or change the permissions",
        )
