"""Shards of several processes, and of processes that are killed: the index is that of one."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from t1_jax.retrieval import Document
from t1_jax.retriever import Processes
from t1_jax.retriever.shards import ShardFolder
from tests.compile_cache import CompileCache

COUNTS = {"tokens": 3, "slots": 4, "truncated": 0, "duplicates": 0}


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.jsonl"
    lines = [json.dumps({"_id": f"d{n:02d}", "text": f"text number {n}"}) for n in range(22)]
    path.write_text("\n".join(lines) + "\n")
    return path


def worker(cache_environment: dict[str, str], *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.retriever.encode_worker", *map(str, arguments)],
        env=cache_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def alone(saved_t1: Path, corpus: Path, tmp_path: Path, compile_cache: CompileCache) -> Path:
    """The index that one process writes without an interruption."""
    with compile_cache.lent(kept=True) as environment:
        process = worker(environment, "", 1, 0, saved_t1, corpus, tmp_path / "alone")
        assert process.communicate(timeout=200)[0].endswith("joined\n")
    return tmp_path / "alone"


@pytest.mark.enable_socket
@pytest.mark.timeout(600)
def test_two_processes_and_one_that_is_killed_write_the_index_of_one(
    saved_t1: Path, corpus: Path, tmp_path: Path, compile_cache: CompileCache, alone: Path
):
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    with compile_cache.lent(kept=False) as environment:
        killed = worker(environment, "", 1, 0, saved_t1, corpus, tmp_path / "index")
        parts = tmp_path / ".index.parts"
        while killed.poll() is None:
            if list(parts.glob("*.npy")):
                os.kill(killed.pid, signal.SIGKILL)
                break
            time.sleep(0.001)
        killed.communicate(timeout=200)
        assert killed.returncode == -signal.SIGKILL
        assert not (tmp_path / "index").exists()
        workers = [
            worker(environment, address, 2, number, saved_t1, corpus, tmp_path / "index")
            for number in range(2)
        ]
        said = [process.communicate(timeout=200)[0] for process in workers]
    assert [process.returncode for process in workers] == [0, 0], "\n".join(said)
    assert [text.splitlines()[-1] for text in said] == ["joined", "helped"]
    assert files(tmp_path / "index") == files(alone)
    assert not parts.exists()


def shard(number: int) -> list[Document]:
    return [Document(id=f"{number}", title="", text=f"text {number}")]


def opened(folder: Path, index: int, count: int = 2, **changes: object):
    return ShardFolder.opened(
        folder / "index",
        {"encoder": "e", **changes},
        start_again=False,
        processes=Processes(index=index, count=count),
    )


def test_the_first_process_waits_for_the_shards_of_the_others(tmp_path: Path):
    vectors = np.ones((1, 2), np.float32)
    with opened(tmp_path, 0) as first, opened(tmp_path, 1) as second:
        first.write(0, shard(0), vectors, **COUNTS)
        first.expect(1, shard(1))
        late = threading.Timer(0.3, lambda: second.write(1, shard(1), vectors, **COUNTS))
        late.start()
        first.end(2)
        assert [entry.shard for entry in first.entries] == [0, 1]
        late.join()


def test_a_run_goes_on_with_another_number_of_processes(tmp_path: Path):
    vectors = np.ones((1, 2), np.float32)
    with opened(tmp_path, 0) as first, opened(tmp_path, 1) as second:
        first.write(0, shard(0), vectors, **COUNTS)
        second.write(1, shard(1), vectors, **COUNTS)
    with opened(tmp_path, 0, count=1) as alone:
        assert alone.has(0, shard(0))
        assert alone.has(1, shard(1))
        assert not alone.has(2, shard(2))


def test_turns_cover_all_shards_once():
    for count in (1, 2, 3):
        turns = [
            [Processes(index=index, count=count).has_turn(number) for number in range(7)]
            for index in range(count)
        ]
        assert np.array(turns).sum(axis=0).tolist() == [1] * 7
