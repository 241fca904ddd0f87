"""Embeddings on disk while a corpus is being encoded: shards, and a journal of those that are done.

```
.NAME.parts/settings.json    what every shard was encoded with
.NAME.parts/00000.npy        unit vectors of the first documents, float32
.NAME.parts/00000.jsonl      these documents
.NAME.parts/journal-0.jsonl  one line for each shard that process 0 finished
```

A shard's files are complete before its line is written, so a kill at any moment costs the shard in
progress. Several processes may write the shards of one index: each has a journal of its own, and
all read all journals, so that a run may go on with another number of processes.
"""

import hashlib
import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from t1_jax.errors import T1Error
from t1_jax.files import sha256_of, write_atomically
from t1_jax.retrieval import Document, documents_hash, read_documents, write_documents
from t1_jax.retriever.unfinished import append_durably, begin, goes_on, is_begun, parts_folder

_POLL_SECONDS = 0.2
"""Between looks at what other processes have written."""


@dataclass(frozen=True, kw_only=True)
class ShardEntry:
    """A line of the journal.

    Attributes:
        shard: its number.
        count: documents.
        documents: SHA-256 of ids, titles and texts.
        vectors: SHA-256 of the file of vectors.
        tokens: tokens that were encoded, without padding.
        slots: the same with padding.
        truncated: documents that were truncated.
        duplicates: documents with the text of an earlier one of the shard, which were not encoded.
    """

    shard: int
    count: int
    documents: str
    vectors: str
    tokens: int
    slots: int
    truncated: int
    duplicates: int


@dataclass(frozen=True, kw_only=True)
class Processes:
    """The processes that encode one corpus; each takes the shards that are its turn.

    Attributes:
        index: of this process; process 0 joins the shards to an index.
        count: of all processes.
    """

    index: int = 0
    count: int = 1

    def has_turn(self, shard: int) -> bool:
        """Whether a shard is for this process."""
        return shard % self.count == self.index


class ShardFolder:
    """The parts of an index that is being encoded; use `opened`.

    Args:
        folder: of the parts.
        processes: that write them.
    """

    def __init__(self, folder: Path, processes: Processes | None = None) -> None:
        self._folder = folder
        self._processes = processes or Processes()
        self._start_again = False
        self._entries: dict[int, ShardEntry] = {}
        self._expected: dict[int, str] = {}

    @classmethod
    @contextmanager
    def opened(
        cls,
        output: Path,
        settings: Mapping[str, Any],
        *,
        start_again: bool,
        processes: Processes | None = None,
    ) -> Iterator["ShardFolder"]:
        """The parts for an index at `output`, beside it, with what an interrupted run left.

        Args:
            output: the index.
            settings: what every shard is encoded with, as JSON values.
            start_again: replace parts that were encoded with other settings, or of documents that
                have changed.
            processes: that write this index together.

        Raises:
            T1Error: another process writes the same index, the parts were encoded with other
                settings, or they cannot be written.
        """
        processes = processes or Processes()
        with parts_folder(output, lock=f"lock-{processes.index}") as folder:
            parts = cls(folder, processes)
            parts._start(settings, start_again=start_again)
            yield parts

    @property
    def entries(self) -> list[ShardEntry]:
        """The finished shards, in order."""
        return [self._entries[number] for number in sorted(self._entries)]

    def has(self, number: int, documents: Sequence[Document]) -> bool:
        """Whether a shard is finished and undamaged.

        Raises:
            T1Error: it was made of other documents, and is not to be replaced.
        """
        entry, digest = self._entries.get(number), _digest(documents)
        if entry is not None and entry.documents != digest:
            self._reject_changed(f"shard {number}")
        return self._is_finished(number, digest)

    def expect(self, number: int, documents: Sequence[Document]) -> None:
        """Says what the shard of another process is made of; `end` waits for it."""
        self._expected[number] = _digest(documents)

    def _is_finished(self, number: int, digest: str) -> bool:
        entry, path = self._entries.get(number), self._vectors(number)
        return (
            entry is not None
            and entry.documents == digest
            and path.is_file()
            and sha256_of(path) == entry.vectors
        )

    def write(
        self,
        number: int,
        documents: Sequence[Document],
        vectors: Float32[np.ndarray, "B E"],
        **counts: int,
    ) -> None:
        """Writes a shard, then its line in the journal; `counts` are fields of `ShardEntry`."""
        write_documents(self._documents(number), documents)
        scratch = self._vectors(number).with_suffix(".tmp")
        with scratch.open("wb") as file:
            np.save(file, vectors, allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())
        scratch.replace(self._vectors(number))
        entry = ShardEntry(
            shard=number,
            count=len(documents),
            documents=_digest(documents),
            vectors=sha256_of(self._vectors(number)),
            **counts,
        )
        line = json.dumps(asdict(entry)) + "\n"
        append_durably(self._folder / f"journal-{self._processes.index}.jsonl", line.encode())
        self._entries[number] = entry

    def end(self, count: int) -> None:
        """Says how many shards there are in all, and waits for those of other processes.

        Raises:
            T1Error: an earlier run had more, and they are not to be replaced.
        """
        for number, digest in self._expected.items():
            while not self._is_finished(number, digest):
                time.sleep(_POLL_SECONDS)
                self._read_journals()
        if beyond := [number for number in self._entries if number >= count]:
            self._reject_changed(f"there were more than {count} shards")
        for number in beyond:
            del self._entries[number]

    def _reject_changed(self, what: str) -> None:
        if not self._start_again:
            raise T1Error(
                f"the documents changed since {self._folder} was begun ({what})",
                hint="add --overwrite to encode those that changed",
            )

    def vectors(self) -> Iterator[Float32[np.ndarray, "B E"]]:
        """Yields the vectors of each shard, mapped from its file."""
        for entry in self.entries:
            yield np.load(self._vectors(entry.shard), mmap_mode="r", allow_pickle=False)

    def document_files(self) -> list[Path]:
        """The documents of each shard, as `write_documents` wrote them."""
        return [self._documents(entry.shard) for entry in self.entries]

    def ids(self) -> list[str]:
        """The ids of all documents, in order."""
        return [item.id for path in self.document_files() for item in read_documents(path)]

    def data_hash(self) -> str:
        """`Collection.data_hash` of all documents."""
        return documents_hash(self.document_files())

    def remove(self) -> None:
        """Deletes the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, settings: Mapping[str, Any], *, start_again: bool) -> None:
        self._start_again = start_again
        while self._processes.index > 0 and not self._can_join(settings, start_again):
            time.sleep(_POLL_SECONDS)
        if goes_on(self._folder, settings, start_again=start_again):
            self._read_journals()
        else:
            begin(self._folder, settings)

    def _can_join(self, settings: Mapping[str, Any], start_again: bool) -> bool:
        """Whether process 0 has begun: with these settings, unless others are an error."""
        return is_begun(self._folder, settings if start_again else None)

    def wait_until_joined(self) -> None:
        """Waits until process 0 has made the index and removed the parts."""
        while is_begun(self._folder):
            time.sleep(_POLL_SECONDS)

    def _read_journals(self) -> None:
        """Reads the finished shards; a last line that was cut off is not one."""
        for path in sorted(self._folder.glob("journal-*.jsonl")):
            content = path.read_bytes()
            whole = content[: content.rfind(b"\n") + 1]
            if whole != content and path.name == f"journal-{self._processes.index}.jsonl":
                write_atomically(path, whole)
            for line in whole.splitlines():
                entry = ShardEntry(**json.loads(line))
                self._entries[entry.shard] = entry

    def _vectors(self, number: int) -> Path:
        return self._folder / f"{number:05d}.npy"

    def _documents(self, number: int) -> Path:
        return self._folder / f"{number:05d}.jsonl"


def _digest(documents: Sequence[Document]) -> str:
    digest = hashlib.sha256()
    for item in documents:
        row = (item.id, item.title, item.text)
        digest.update(json.dumps(row, ensure_ascii=False).encode(errors="surrogatepass") + b"\n")
    return digest.hexdigest()
