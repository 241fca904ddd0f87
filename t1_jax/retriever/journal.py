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
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from t1_jax.files import write_atomically
from t1_jax.retriever.unfinished import append_durably, begin, goes_on, parts_folder


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

    def __init__(self, folder: Path, output: Path) -> None:
        self.folder = folder
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
        with parts_folder(output) as folder:
            journal = cls(folder, output)
            journal._start(settings, start_again=start_again)
            yield journal

    def append(self, data: bytes, *, source: str, counts: Mapping[str, int]) -> None:
        """Adds a block to the output, then its line to the journal; `source` is its `input`."""
        start = self.entries[-1].end if self.entries else 0
        entry = BlockEntry(
            input=source,
            end=start + len(data),
            output=hashlib.sha256(data).hexdigest(),
            counts=counts,
        )
        append_durably(self._output, data)
        line = {"input": source, "end": entry.end, "output": entry.output, **counts}
        append_durably(self._journal, json.dumps(line).encode() + b"\n")
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
        if goes_on(self.folder, settings, start_again=start_again):
            self._read()
        else:
            begin(self.folder, settings)
            self._output.touch()

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
