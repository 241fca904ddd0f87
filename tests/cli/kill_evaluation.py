"""Kills a benchmark's evaluation at random moments: `... kill_evaluation KILLS SEED FOLDER WORDS`.

Evaluates once undisturbed into FOLDER/undisturbed, then into FOLDER/killed, where each attempt but
the last gets signal 9. By hand: `python -m tests.cli.kill_evaluation 20 7 FOLDER evaluate ...`.
"""

import os
import random
import signal
import sys
import time
import traceback
from pathlib import Path

# Imported once, before any fork; the children start the device.
from t1_jax.cli.main import app


def start(folder: Path, words: list[str]) -> int:
    """The id of a process that evaluates into a folder, with a cache of thoughts beside it."""
    child = os.fork()
    if child:
        return child
    os.environ["T1_CACHE"] = f"{folder}-cache"
    try:
        app([*words, "-o", str(folder)], standalone_mode=False, prog_name="t1")
        sys.stdout.flush()
        os._exit(0)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def finish(folder: Path, words: list[str]) -> float:
    """Evaluates to the end, and returns the seconds that it took."""
    started = time.monotonic()
    _, status = os.waitpid(start(folder, words), 0)
    assert status == 0, "the evaluation failed"
    return time.monotonic() - started


def main(kills: int, seed: int, folder: Path, words: list[str]) -> None:
    """Prints the seconds after which each attempt was killed."""
    chance = random.Random(seed)
    seconds = finish(folder / "undisturbed", words)
    moments, finished = [], 0
    while len(moments) < kills:
        child = start(folder / "killed", words)
        moment = chance.uniform(0.2, 0.9) * seconds
        time.sleep(moment)
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            moments.append(f"{moment:.2f}")
            continue
        assert status == 0, "an attempt failed"
        finished += 1  # it took less time, as all is compiled: begin again, so that kills count
        seconds = min(seconds, moment)
        (folder / "killed").rename(folder / f"finished-{finished}")
    finish(folder / "killed", words)
    sys.stdout.write(f"killed after {', '.join(moments)} s, {finished} finished before\n")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]), sys.argv[4:])
