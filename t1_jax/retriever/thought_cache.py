"""Thoughts on disk: one that was sampled once is read back, bit for bit.

Evaluation, search, thinking and serving share one SQLite file. A key is the SHA-256 of all that a
thought depends on, so nothing in the cache is ever out of date.
"""

import dataclasses
import hashlib
import json
import logging
import math
import sqlite3
import threading
import time
import weakref
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from t1_jax.errors import ConfigError
from t1_jax.generate import Choices, FinishReason, Prompt, SamplingParams, Thought
from t1_jax.hub import cache_folder

Result = TypeVar("Result")

DEFAULT_BYTES = 2**30
"""Default bound of the file: 1 GiB, about 200,000 thoughts of a model with 576 dimensions."""

_FORMAT = 1
_KEPT_FRACTION = 0.9
"""How full the file is after the oldest thoughts were dropped; dropping a few at a time is slow."""
_LOCK_SECONDS = 30.0
_LOOKUP_KEYS = 500
"""Keys of one query to SQLite, which bounds their number."""

_SCHEMA = """
CREATE TABLE IF NOT EXISTS thoughts (
    key BLOB PRIMARY KEY,
    last_used INTEGER NOT NULL,
    token_ids BLOB NOT NULL,
    log_probs BLOB NOT NULL,
    log_probs_at_1 BLOB NOT NULL,
    embedding BLOB NOT NULL,
    finish_reason TEXT NOT NULL,
    text TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS by_last_use ON thoughts (last_used);
"""


def default_cache_path() -> Path:
    """The file that all commands share, in the cache folder of this package."""
    return cache_folder() / f"thoughts-{_FORMAT}.sqlite"


def thought_key(
    model: str,
    prompt: Prompt,
    sample: int,
    *,
    max_thought_tokens: int,
    sampling: SamplingParams,
    choices: Choices | None = None,
) -> bytes:
    """SHA-256 of all that a thought depends on.

    A greedy thought depends on no seed, name or filter, so evaluation and search share it.

    Args:
        model: `T1.thought_fingerprint`.
        prompt: name of the random stream, and tokens.
        sample: number of the thought among those of its query.
        max_thought_tokens: most tokens of the thought.
        sampling: temperature, filters and seed.
        choices: the texts that the thought may be; None if it is free.
    """
    decoding = dataclasses.asdict(sampling)
    stream: tuple[object, ...] = (prompt.query_id, sample)
    if sampling.temperature == 0:
        stream = ()
        decoding = {name: decoding[name] for name in ("repetition_penalty", "min_length")}
    parts: list[object] = [_FORMAT, model, list(prompt.token_ids), stream]
    parts += [max_thought_tokens, decoding]
    if choices is not None:
        parts.append(choices.fingerprint)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()


class ThoughtCache:
    """A bounded cache of thoughts in one file, for any number of processes and threads.

    The thoughts that were not used for longest are dropped first. A cache that cannot be read or
    written, because of a full disk for example, is left alone after one warning: thinking goes on
    without it.

    Attributes:
        path: of the file.
        hits: thoughts that were found.
        misses: thoughts that were not.
    """

    def __init__(self, path: Path | None = None, *, max_bytes: int = DEFAULT_BYTES) -> None:
        """Names a cache; the file is opened on first use.

        Args:
            path: of the file; default that of all commands.
            max_bytes: bound of the file, which one call of `put` may exceed for a moment.

        Raises:
            ConfigError: `max_bytes` is below 1 MiB.
        """
        if max_bytes < 2**20:
            raise ConfigError(f"max_bytes must be at least {2**20} (1 MiB), got {max_bytes}")
        self.path = path or default_cache_path()
        self.hits = self.misses = 0
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._readable = self._writable = True

    def __repr__(self) -> str:
        return f"ThoughtCache({self.path}, {self.hits} hits, {self.misses} misses)"

    def get(self, keys: Sequence[bytes]) -> list[Thought | None]:
        """The thought of each key, with sample number 0, or None."""
        with self._lock:
            rows: dict[bytes, tuple[Any, ...]] = {}
            if self._readable:
                rows = self._attempt(lambda connection: _select(connection, keys), rows)
            if rows:
                self._write(lambda connection: _touch(connection, list(rows)))
            found = [_as_thought(rows[key]) if key in rows else None for key in keys]
            self.hits += sum(thought is not None for thought in found)
            self.misses += sum(thought is None for thought in found)
            return found

    def put(self, thoughts: Mapping[bytes, Thought]) -> None:
        """Stores thoughts in one transaction: all of them or none.

        What is known stays as it is, and an embedding that is not finite is not stored.
        """
        now = time.time_ns()
        rows = [
            (key, now, *_as_row(thought))
            for key, thought in thoughts.items()
            if np.isfinite(thought.embedding).all()
        ]
        with self._lock:
            if rows and self._readable:
                self._write(lambda connection: _insert(connection, rows, self._max_bytes))

    def close(self) -> None:
        """Closes the file; a later use opens it again."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _write(self, work: Callable[[sqlite3.Connection], None]) -> None:
        """Does work in a transaction; after a failure there is no further writing."""
        if not self._writable:
            return

        def transaction(connection: sqlite3.Connection) -> bool:
            connection.execute("BEGIN IMMEDIATE")
            try:
                work(connection)
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
            return True

        self._writable = self._attempt(transaction, False)

    def _attempt(self, work: Callable[[sqlite3.Connection], Result], otherwise: Result) -> Result:
        try:
            return work(self._open())
        except (sqlite3.Error, OSError) as error:
            is_full = isinstance(error, sqlite3.OperationalError) and "full" in str(error)
            if not is_full:  # a full disk can still be read
                self._readable = False
            self._writable = False
            logging.getLogger("t1_jax").warning(
                "%s: %s; thoughts are not stored from here on", self.path, error
            )
            return otherwise

    def _open(self) -> sqlite3.Connection:
        if self._connection is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(
                self.path, timeout=_LOCK_SECONDS, isolation_level=None, check_same_thread=False
            )
            weakref.finalize(self, self._connection.close)
            self._connection.execute("PRAGMA journal_mode = WAL")
            self._connection.execute("PRAGMA synchronous = NORMAL")
            self._connection.executescript(_SCHEMA)
        return self._connection


def _select(connection: sqlite3.Connection, keys: Sequence[bytes]) -> dict[bytes, tuple[Any, ...]]:
    rows: dict[bytes, tuple[Any, ...]] = {}
    for start in range(0, len(keys), _LOOKUP_KEYS):
        part = keys[start : start + _LOOKUP_KEYS]
        marks = ",".join("?" * len(part))
        for key, *values in connection.execute(
            "SELECT key, token_ids, log_probs, log_probs_at_1, embedding, finish_reason, text "
            f"FROM thoughts WHERE key IN ({marks})",
            part,
        ):
            rows[key] = tuple(values)
    return rows


def _touch(connection: sqlite3.Connection, keys: Sequence[bytes]) -> None:
    now = time.time_ns()
    connection.executemany(
        "UPDATE thoughts SET last_used = ? WHERE key = ?", [(now, key) for key in keys]
    )


def _insert(
    connection: sqlite3.Connection, rows: Sequence[tuple[Any, ...]], max_bytes: int
) -> None:
    connection.executemany("INSERT OR IGNORE INTO thoughts VALUES (?, ?, ?, ?, ?, ?, ?, ?)", rows)
    pages, free, page_bytes = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_count", "freelist_count", "page_size")
    )
    used = (pages - free) * page_bytes
    if used <= max_bytes:
        return
    (count,) = connection.execute("SELECT count(*) FROM thoughts").fetchone()
    dropped = math.ceil(count * (1 - _KEPT_FRACTION * max_bytes / used))
    connection.execute(
        "DELETE FROM thoughts WHERE key IN (SELECT key FROM thoughts ORDER BY last_used LIMIT ?)",
        (dropped,),
    )


def _as_row(thought: Thought) -> tuple[Any, ...]:
    return (
        thought.token_ids.astype("<i4").tobytes(),
        thought.log_probs.astype("<f4").tobytes(),
        thought.log_probs_at_1.astype("<f4").tobytes(),
        thought.embedding.astype("<f4").tobytes(),
        thought.finish_reason.value,
        thought.text,
    )


def _as_thought(row: tuple[Any, ...]) -> Thought:
    token_ids, log_probs, log_probs_at_1, embedding, finish_reason, text = row

    def floats(data: bytes) -> np.ndarray:
        return np.frombuffer(data, "<f4").astype(np.float32)

    return Thought(
        token_ids=np.frombuffer(token_ids, "<i4").astype(np.int32),
        log_probs=floats(log_probs),
        log_probs_at_1=floats(log_probs_at_1),
        embedding=floats(embedding),
        finish_reason=FinishReason(finish_reason),
        sample=0,
        text=text,
    )
