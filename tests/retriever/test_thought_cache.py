"""The cache of thoughts: the same bits, bounded, shared by processes, harmless when it fails."""

import sqlite3
import subprocess
import sys
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.generate import FinishReason, Prompt, SamplingParams, Thought
from t1_jax.retriever.thought_cache import ThoughtCache, default_cache_path, thought_key

PROMPT = Prompt(query_id="q", token_ids=(1, 2, 3))
SAMPLED, GREEDY = SamplingParams(seed=5), SamplingParams(temperature=0.0, seed=5)


def thought(number: int = 0, *, dims: int = 8, text: str = "a thought\ud7ff") -> Thought:
    chance = np.random.default_rng(number)
    return Thought(
        token_ids=chance.integers(0, 400, 5).astype(np.int32),
        log_probs=chance.normal(size=5).astype(np.float32),
        log_probs_at_1=chance.normal(size=5).astype(np.float32),
        embedding=chance.normal(size=dims).astype(np.float32),
        finish_reason=FinishReason.LENGTH,
        sample=0,
        text=text,
    )


def bits(item: Thought | None) -> tuple[object, ...]:
    assert item is not None
    arrays = (item.token_ids, item.log_probs, item.log_probs_at_1, item.embedding)
    return (*((a.dtype, a.tobytes()) for a in arrays), item.finish_reason, item.text)


def key(number: int) -> bytes:
    return number.to_bytes(32, "big")


def test_what_is_read_has_the_bits_of_what_was_written(tmp_path: Path) -> None:
    written = thought(text="β \x00 \n end")
    ThoughtCache(tmp_path / "new" / "c").put({key(1): written})
    cache = ThoughtCache(tmp_path / "new" / "c")
    found, absent = cache.get([key(1), key(2)])
    assert bits(found) == bits(written)
    assert absent is None
    assert (cache.hits, cache.misses) == (1, 1)


def test_the_first_writer_of_a_key_wins_and_nan_is_not_kept(tmp_path: Path) -> None:
    cache = ThoughtCache(tmp_path / "c")
    broken = replace(thought(), embedding=np.full(8, np.nan, np.float32))
    cache.put({key(1): thought(1), key(2): broken})
    cache.put({key(1): thought(2)})
    found, absent = cache.get([key(1), key(2)])
    assert bits(found) == bits(thought(1))
    assert absent is None


def test_more_keys_than_one_query_to_the_database_takes(tmp_path: Path) -> None:
    cache = ThoughtCache(tmp_path / "c")
    cache.put({key(number): thought(number) for number in range(1200)})
    found = cache.get([key(number) for number in range(1200)])
    assert [bits(item) for item in found] == [bits(thought(number)) for number in range(1200)]


@pytest.mark.parametrize(
    "other",
    [
        {"model": "b"},
        {"prompt": replace(PROMPT, query_id="r")},
        {"prompt": replace(PROMPT, token_ids=(1, 2, 4))},
        {"sample": 1},
        {"max_thought_tokens": 9},
        {"sampling": replace(SAMPLED, seed=6)},
        {"sampling": replace(SAMPLED, top_p=0.9)},
        {"sampling": replace(SAMPLED, temperature=0.5)},
        {"sampling": GREEDY},
    ],
)
def test_all_that_a_thought_depends_on_is_in_its_key(other) -> None:
    fields = {
        "model": "a", "prompt": PROMPT, "sample": 0, "max_thought_tokens": 8, "sampling": SAMPLED
    }  # fmt: skip

    def of(model, prompt, sample, **options):
        return thought_key(model, prompt, sample, **options)

    assert of(**fields) == of(**fields)
    assert of(**(fields | other)) != of(**fields)


def test_greedy_thoughts_share_a_key_whatever_their_seed_and_name() -> None:
    def of(prompt: Prompt, sampling: SamplingParams) -> bytes:
        return thought_key("a", prompt, 0, max_thought_tokens=8, sampling=sampling)

    first = of(PROMPT, GREEDY)
    assert of(replace(PROMPT, query_id="r"), replace(GREEDY, seed=9, top_p=0.5)) == first
    assert of(PROMPT, replace(GREEDY, repetition_penalty=1.2)) != first


def test_the_file_is_bounded_and_what_was_used_last_stays(tmp_path: Path) -> None:
    cache = ThoughtCache(tmp_path / "c", max_bytes=2**20)
    cache.put({key(0): thought(0, dims=1000)})
    for number in range(1, 600):  # 2.4 MB
        cache.put({key(number): thought(number, dims=1000)})
        if number % 20 == 0:
            assert bits(cache.get([key(0)])[0]) == bits(thought(0, dims=1000))
    assert (tmp_path / "c").stat().st_size < 2**20 + 2**16
    assert cache.get([key(1)]) == [None]
    assert all(cache.get([key(0), key(599)]))
    with pytest.raises(ConfigError, match="max_bytes must be at least"):
        ThoughtCache(tmp_path / "c", max_bytes=10)


def test_a_full_disk_is_one_warning_and_reading_goes_on(tmp_path, caplog) -> None:
    cache = ThoughtCache(tmp_path / "c")
    cache.put({key(0): thought(0)})
    pages = cache._open().execute("PRAGMA page_count").fetchone()[0]
    cache._open().execute(f"PRAGMA max_page_count = {pages}")  # SQLite then reports a full disk
    for number in range(1, 4):
        cache.put({key(number): thought(number, dims=9000)})
    assert [record.message for record in caplog.records] == [
        f"{tmp_path / 'c'}: database or disk is full; thoughts are not stored from here on"
    ]
    assert bits(cache.get([key(0)])[0]) == bits(thought(0))
    assert ThoughtCache(tmp_path / "c").get([key(1), key(2), key(3)]) == [None] * 3


def not_a_database(path: Path) -> None:
    path.write_bytes(b"not a database " * 100)


def a_folder(path: Path) -> None:
    path.mkdir()


def another_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE thoughts (key, last_used)")
    connection.close()


@pytest.mark.parametrize("damage", [not_a_database, a_folder, another_table])
def test_a_file_that_is_no_cache_is_left_alone_after_one_warning(tmp_path, caplog, damage) -> None:
    damage(tmp_path / "c")
    cache = ThoughtCache(tmp_path / "c")
    assert cache.get([key(1)]) == [None]
    cache.put({key(1): thought()})
    assert cache.get([key(1)]) == [None]
    assert len(caplog.records) == 1
    assert "thoughts are not stored from here on" in caplog.text


def test_threads_share_one_cache(tmp_path: Path) -> None:
    cache = ThoughtCache(tmp_path / "c")

    def work(first: int) -> None:
        for number in range(first, first + 20):
            cache.put({key(number): thought(number)})
            assert cache.get([key(number)])[0] is not None

    threads = [threading.Thread(target=work, args=(10 * start,)) for start in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(cache.get([key(number) for number in range(70)]))


_WRITER = """
import sqlite3, sys
connection = sqlite3.connect(sys.argv[1], timeout=30, isolation_level=None)
for number in range(int(sys.argv[2]), int(sys.argv[2]) + 100):
    connection.execute("BEGIN IMMEDIATE")
    connection.execute(
        "INSERT OR IGNORE INTO thoughts SELECT ?, last_used, token_ids, log_probs, "
        "log_probs_at_1, embedding, finish_reason, text FROM thoughts LIMIT 1",
        (number.to_bytes(32, "big"),),
    )
    connection.execute("COMMIT")
    print(number, flush=True)
"""


def test_processes_share_a_file_and_a_killed_one_does_no_harm(tmp_path: Path) -> None:
    cache = ThoughtCache(tmp_path / "c")
    cache.put({key(0): thought(0)})
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITER, str(tmp_path / "c"), str(first)],
            stdout=subprocess.PIPE,
        )
        for first in (1000, 2000)
    ]
    for number in range(1, 60):
        cache.put({key(number): thought(number)})
    assert writers[0].stdout is not None
    writers[0].stdout.readline()
    writers[0].kill()  # signal 9, somewhere in its hundred transactions
    for writer in writers:
        writer.communicate()
    found = cache.get([*map(key, range(60)), *map(key, range(2000, 2100))])
    assert all(item is not None for item in found)
    assert bits(found[59]) == bits(thought(59))


def test_the_default_file_lies_in_the_cache_folder(monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("T1_CACHE", str(tmp_path))
    assert ThoughtCache().path == default_cache_path() == tmp_path / "thoughts-1.sqlite"
