"""Replaces an index again and again in a child that is killed: `... kill_worker FOLDER MOMENTS`."""

import os
import random
import signal
import sys
import time
from pathlib import Path

import numpy as np

from t1_jax.retrieval import Fingerprint, build_index, load_index, read_manifest, verify_index

FINGERPRINTS = [Fingerprint(encoder=digit, prompt="f0", data="d0") for digit in ("0", "1")]


def save(folder: Path, number: int) -> None:
    """Writes one of two indexes, whose vectors and fingerprints differ."""
    vectors = np.random.default_rng(number).standard_normal((200 + number, 64))
    index = build_index("numpy", [str(row) for row in range(len(vectors))], vectors)
    index.save(folder, FINGERPRINTS[number], overwrite=True)


def main(folder: Path, moments: int) -> None:
    """Kills a child at random moments; after each, one of the two indexes is there, undamaged."""
    chance = random.Random(0)
    save(folder, 0)
    found = set()
    for _ in range(moments):
        child = os.fork()
        if child == 0:
            for number in range(1_000_000):
                save(folder, number % 2)
        time.sleep(chance.uniform(0.005, 0.05))
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        verify_index(folder)
        number = FINGERPRINTS.index(read_manifest(folder).fingerprint)
        assert len(load_index(folder, FINGERPRINTS[number]).ids) == 200 + number
        found.add(number)
    sys.stdout.write(f"{sorted(found)}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), int(sys.argv[2]))
