"""The watchdog ends a process that hangs, and leaves one alone that is only slow."""

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from t1_jax.errors import RetryableError
from t1_jax.train.infra import Watchdog

SECOND = 1 / 60
HANGING = """
import threading
from t1_jax.train.infra import Watchdog

def ask_the_judge():
    threading.Event().wait()

with Watchdog(lambda: 0, 0.2 / 60):
    ask_the_judge()
"""


def test_a_process_that_hangs_says_where_and_ends(tmp_path: Path):
    script = tmp_path / "my_reward.py"
    script.write_text(HANGING)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])}
    ended = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, timeout=60, env=environment
    )
    assert ended.returncode == 75
    assert f"the run is in ask_the_judge ({script}:6)" in ended.stderr
    assert "thread MainThread:" in ended.stderr
    assert "the same command resumes from the last checkpoint" in ended.stderr


@pytest.fixture
def ended() -> list[RetryableError]:
    return []


def test_progress_keeps_it_quiet(ended: list[RetryableError]):
    progress = [0]
    with Watchdog(lambda: progress[0], 0.2 * SECOND, end=ended.append):
        for _ in range(40):
            time.sleep(0.01)
            progress[0] += 1
    assert ended == []


def test_a_rollout_in_a_thread_is_what_hangs(ended: list[RetryableError]):
    release = threading.Event()

    def decode() -> None:
        release.wait(30)

    def end(error: RetryableError) -> None:
        ended.append(error)
        release.set()

    with Watchdog(lambda: 0, 0.1 * SECOND, end=end):
        rollout = threading.Thread(target=decode, name="rollout_0")
        rollout.start()
        rollout.join()
    assert f"the run is in decode ({__file__}:" in ended[0].message


def test_it_watches_nothing_without_a_limit(ended: list[RetryableError]):
    before = threading.active_count()
    with Watchdog(lambda: 0, None, end=ended.append):
        assert threading.active_count() == before
