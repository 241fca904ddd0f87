"""Long work that is done block by block into a file, and goes on after a kill at any moment.

```
.NAME.parts/settings.json    what every block was made with
.NAME.parts/output           the finished blocks, and perhaps the start of the next one
.NAME.parts/journal.jsonl    one line for each finished block
```

A block is on the disk before its line is written, so a kill costs the block in progress. When all
blocks are done, the output is moved to NAME and the rest is deleted.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from t1_jax.errors import T1Error
from t1_jax.files import write_atomically
from t1_jax.progress import shorten

_VALUE_CHARACTERS = 60


@dataclass(frozen=True, kw_only=True)
class BlockEntry:
    """A line of the journal.

    Attributes:
        input: SHA-256 of what the block was made of.
        end: length of the output after the block, in bytes.
        output: SHA-256 of the block's bytes.
        counts: whatever the caller counts.
    """

    input: str
    end: int
    output: str
    counts: Mapping[str, int] = field(default_factory=dict)


class Journal:
    """The finished blocks of an output; use `opened`.

    Attributes:
        folder: of the parts.
        entries: the finished blocks, in order.
    """

    def __init__(self, output: Path) -> None:
        self.folder = output.with_name(f".{output.name}.parts")
        self.entries: list[BlockEntry] = []
        self._target = output

    @classmethod
    @contextmanager
    def opened(
        cls, output: Path, settings: Mapping[str, Any], *, start_again: bool
    ) -> Iterator["Journal"]:
        """The journal of an output, with what an interrupted run left.

        Args:
            output: the file that will be complete at the end.
            settings: what every block is made with, as JSON values.
            start_again: drop the blocks that were made with other settings.

        Raises:
            T1Error: another process writes the same output, the blocks were made with other
                settings, or the disk cannot be written.
        """
        journal = cls(output)
        try:
            journal.folder.mkdir(parents=True, exist_ok=True)
            with FileLock(journal.folder / "lock", timeout=0):
                journal._start(json.loads(json.dumps(settings)), start_again=start_again)
                yield journal
        except Timeout as error:
            raise T1Error(
                f"another process is writing {output}", hint="wait for it, or choose another output"
            ) from error
        except OSError as error:
            raise T1Error(
                f"{journal.folder} cannot be written: {error.strerror or error}",
                hint="free disk space or check permissions; the same command goes on from here",
            ) from error

    def append(self, data: bytes, *, source: str, counts: Mapping[str, int]) -> None:
        """Adds a block to the output, then its line to the journal; `source` is its `input`."""
        start = self.entries[-1].end if self.entries else 0
        entry = BlockEntry(
            input=source,
            end=start + len(data),
            output=hashlib.sha256(data).hexdigest(),
            counts=counts,
        )
        _append(self._output, data)
        line = {"input": source, "end": entry.end, "output": entry.output, **counts}
        _append(self._journal, json.dumps(line).encode() + b"\n")
        self.entries.append(entry)

    def keep(self, count: int) -> None:
        """Drops all blocks but the first `count`."""
        if count < len(self.entries):
            self.entries = self.entries[:count]
            lines = self._journal.read_bytes().splitlines(keepends=True)
            write_atomically(self._journal, b"".join(lines[:count]))
        with self._output.open("ab") as file:
            file.truncate(self.entries[-1].end if self.entries else 0)

    def finish(self) -> None:
        """Moves the output to its place, and deletes the parts."""
        self._output.replace(self._target)
        shutil.rmtree(self.folder, ignore_errors=True)

    @property
    def _output(self) -> Path:
        return self.folder / "output"

    @property
    def _journal(self) -> Path:
        return self.folder / "journal.jsonl"

    def _start(self, settings: Mapping[str, Any], *, start_again: bool) -> None:
        file = self.folder / "settings.json"
        if file.exists():
            found = json.loads(file.read_bytes())
            if found == settings:
                self._read()
                return
            if not start_again:
                raise T1Error(
                    f"{self.folder} was begun with other settings: "
                    + "; ".join(_differences(found, settings)),
                    hint="use the same settings to go on, or add --overwrite to start again",
                )
            file.unlink()
        self._journal.unlink(missing_ok=True)
        self._output.write_bytes(b"")
        write_atomically(file, json.dumps(settings, indent=2) + "\n")

    def _read(self) -> None:
        """Reads the finished blocks, up to the first that is damaged."""
        lines = self._journal.read_bytes() if self._journal.exists() else b""
        self._output.touch()
        with self._output.open("rb") as output:
            for line in lines.splitlines(keepends=True):
                if not line.endswith(b"\n"):
                    break  # cut off while it was written
                fields = json.loads(line)
                entry = BlockEntry(
                    input=fields.pop("input"),
                    end=fields.pop("end"),
                    output=fields.pop("output"),
                    counts=fields,
                )
                data = output.read(entry.end - output.tell())
                if hashlib.sha256(data).hexdigest() != entry.output:
                    break
                self.entries.append(entry)
        whole = lines.splitlines(keepends=True)[: len(self.entries)]
        if b"".join(whole) != lines:
            write_atomically(self._journal, b"".join(whole))
        self.keep(len(self.entries))


def _append(path: Path, data: bytes) -> None:
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
