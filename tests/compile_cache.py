"""Compiled programs, shared by the tests of a run, by its processes, and with later runs.

JAX writes an entry of its cache in place, so no process may read a folder that another one writes.
Each process has a folder of its own here, and they exchange whole entries as hard links.
"""

import contextlib
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

_DAY = 86_400


class CompileCache:
    """One process's folder, and the one that all runs in this checkout share.

    Attributes:
        own: for `jax_compilation_cache_dir`.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._shared = root / "shared"
        self._shared.mkdir(parents=True, exist_ok=True)
        self._prune()
        self.own = self._folder()
        self.exchange()

    def exchange(self) -> None:
        """Gives the others what this process has compiled, and takes what they have."""
        _link(self.own, self._shared)
        _link(self._shared, self.own)

    @contextlib.contextmanager
    def lent(self, *, kept: bool) -> Iterator[dict[str, str]]:
        """The environment of a child process, with a folder that holds all that is known.

        Args:
            kept: take what the child has compiled; not where it is killed, maybe while it writes.
        """
        folder = self._folder()
        _link(self.own, folder)
        yield os.environ | {
            "JAX_COMPILATION_CACHE_DIR": str(folder),
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
            "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
        }
        if kept:
            _link(folder, self.own)
        shutil.rmtree(folder)

    def close(self) -> None:
        """Removes the process's folder."""
        shutil.rmtree(self.own, ignore_errors=True)

    def _folder(self) -> Path:
        return Path(tempfile.mkdtemp(prefix="process-", dir=self._root))

    def _prune(self) -> None:
        """Forgets programs of a week ago, and folders of processes that were killed."""
        now = time.time()
        for entry in os.scandir(self._shared):
            with contextlib.suppress(FileNotFoundError):
                if now - entry.stat().st_mtime > 7 * _DAY:
                    os.unlink(entry.path)
        for folder in self._root.glob("process-*"):
            with contextlib.suppress(FileNotFoundError):
                if now - folder.stat().st_mtime > _DAY:
                    shutil.rmtree(folder, ignore_errors=True)


def _link(source: Path, target: Path) -> None:
    known = set(os.listdir(target))
    for name in os.listdir(source):
        if name not in known:
            # Another process may have linked it, or pruned it, in the meantime.
            with contextlib.suppress(FileExistsError, FileNotFoundError):
                os.link(source / name, target / name)
