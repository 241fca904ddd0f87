"""Embeddings on disk while a corpus is being encoded: shards, and a journal of those that are done.

```
.NAME.parts/settings.json    what every shard was encoded with
.NAME.parts/00000.npy        unit vectors of the first documents, float32
.NAME.parts/00000.jsonl      these documents
.NAME.parts/journal.jsonl    one line for each finished shard
```

A shard's files are complete before its line is written, so a kill at any moment costs the shard in
progress.
"""

import hashlib
import json
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock, Timeout
from jaxtyping import Float32

from t1_jax.errors import T1Error
from t1_jax.files import sha256_of, write_atomically
from t1_jax.retrieval import Document, read_documents, write_documents


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


class ShardFolder:
    """The parts of an index that is being encoded; use `opened`.

    Args:
        folder: of the parts.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._start_again = False
        self._entries: dict[int, ShardEntry] = {}

    @classmethod
    @contextmanager
    def opened(
        cls, output: Path, settings: Mapping[str, Any], *, start_again: bool
    ) -> Iterator["ShardFolder"]:
        """The parts for an index at `output`, beside it, with what an interrupted run left.

        Args:
            output: the index.
            settings: what every shard is encoded with, as JSON values.
            start_again: replace parts that were encoded with other settings, or of documents that
                have changed.

        Raises:
            T1Error: another process writes the same index, the parts were encoded with other
                settings, or they cannot be written.
        """
        folder = output.with_name(f".{output.name}.parts")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with FileLock(folder / "lock", timeout=0):
                parts = cls(folder)
                parts._start(settings, start_again=start_again)
                yield parts
        except Timeout as error:
            raise T1Error(
                f"another process is writing {output}", hint="wait for it, or choose another output"
            ) from error
        except OSError as error:
            raise T1Error(
                f"{folder} cannot be written: {error.strerror or error}",
                hint="free disk space or check permissions; the same command goes on from here",
            ) from error

    @property
    def entries(self) -> list[ShardEntry]:
        """The finished shards, in order."""
        return [self._entries[number] for number in sorted(self._entries)]

    def has(self, number: int, documents: Sequence[Document]) -> bool:
        """Whether a shard is finished and undamaged.

        Raises:
            T1Error: it was made of other documents, and is not to be replaced.
        """
        entry = self._entries.get(number)
        if entry is None:
            return False
        if entry.documents != _digest(documents):
            self._reject_changed(f"shard {number}")
            return False
        path = self._vectors(number)
        return path.is_file() and sha256_of(path) == entry.vectors

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
        with (self._folder / "journal.jsonl").open("a", encoding="utf-8") as journal:
            journal.write(json.dumps(asdict(entry)) + "\n")
            journal.flush()
            os.fsync(journal.fileno())
        self._entries[number] = entry

    def end(self, count: int) -> None:
        """Says how many shards there are in all.

        Raises:
            T1Error: an earlier run had more, and they are not to be replaced.
        """
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
        """`Collection.data_hash` of all documents, with one of them in memory at a time."""
        places: list[tuple[str, int, int]] = []
        files = [path.open("rb") for path in self.document_files()]
        try:
            for number, file in enumerate(files):
                start = 0
                for line in file:
                    places.append((json.loads(line)["_id"], number, start))
                    start += len(line)
            digest = hashlib.sha256()
            for _, number, start in sorted(places):
                files[number].seek(start)
                fields = json.loads(files[number].readline())
                row = (fields["_id"], fields["title"], fields["text"])
                digest.update(json.dumps(row, ensure_ascii=False).encode() + b"\n")
            return digest.hexdigest()
        finally:
            for file in files:
                file.close()

    def remove(self) -> None:
        """Deletes the parts."""
        shutil.rmtree(self._folder, ignore_errors=True)

    def _start(self, settings: Mapping[str, Any], *, start_again: bool) -> None:
        self._start_again = start_again
        file = self._folder / "settings.json"
        wanted = json.loads(json.dumps(settings))
        if file.exists():
            found = json.loads(file.read_bytes())
            differing = sorted(
                key for key in found.keys() | wanted.keys() if found.get(key) != wanted.get(key)
            )
            if not differing:
                self._read_journal()
                return
            if not start_again:
                raise T1Error(
                    f"{self._folder} was begun with other settings: {', '.join(differing)}",
                    hint="use the same settings to go on, or add --overwrite to start again",
                )
            for path in self._folder.iterdir():
                if path.name != "lock":
                    path.unlink()
        write_atomically(file, json.dumps(wanted, indent=2) + "\n")

    def _read_journal(self) -> None:
        """Reads the finished shards; a last line that was cut off is not one."""
        path = self._folder / "journal.jsonl"
        if not path.exists():
            return
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
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
