"""Kills a three-stage run of two processes at random moments, and compares its weights at the end.

By hand, about half a minute for each kill: `python -m tests.train.chaos FOLDER --kills 30`.
"""

import argparse
import contextlib
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from safetensors.numpy import load_file

from tests.conftest import make_tiny_tokenizer
from tests.processes import job_of_two
from tests.train.toy_runs import (
    S1,
    S2,
    S3,
    merged,
    toy_config,
    write_model,
    write_zoo,
    write_zoo_records,
)

STAGES: dict[str, Any] = {
    "s1": merged(S1, {"steps": 2}),
    "s2": merged(S2, {"steps": 2}),
    "s3": merged(S3, {"steps": 2}),
}
MESH = {"data": 1, "fsdp": 2, "tensor": 2}


class Pair:
    """Two processes of two devices each that train one config."""

    def __init__(self, config: Path, cache: Path) -> None:
        flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=2"
        self.log = config.with_suffix(".log")
        self._caches = [cache.with_name(f"{cache.name}-{number}") for number in range(2)]
        with self.log.open("a") as log:
            self.processes = [
                subprocess.Popen(
                    [sys.executable, "-m", "tests.train.worker", config],
                    env={
                        **os.environ,
                        "JAX_PLATFORMS": "cpu",
                        # A process that is killed may leave half an entry of the cache.
                        "JAX_COMPILATION_CACHE_DIR": str(_copied(cache, self._caches[number])),
                        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
                        "JAX_PERSISTENT_CACHE_ENABLE_XLA_CACHES": "none",
                        "XLA_FLAGS": flags,
                        **job,
                    },
                    stdout=log,
                    stderr=log,
                )
                for number, job in enumerate(job_of_two())
            ]

    def wait(self, seconds: float) -> list[int] | None:
        """The exit codes once both have ended; None if they have not after some time."""
        end = time.monotonic() + seconds
        with contextlib.suppress(subprocess.TimeoutExpired):
            return [process.wait(max(end - time.monotonic(), 0)) for process in self.processes]
        return None

    def keep_cache(self, cache: Path) -> None:
        """Keeps what an undisturbed pair has compiled."""
        _copied(self._caches[0], cache)


def _copied(source: Path, target: Path) -> Path:
    if source.exists():
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(source, target)
    return target


def new_run(toys: Path, name: str) -> Path:
    """The config of a new run in a folder of its own."""
    root = Path(shutil.copytree(toys, toys.with_name(name)))
    toy_config(root, STAGES, mesh=MESH, checkpoints={"every_steps": 1})
    return root


def undisturbed(toys: Path, cache: Path) -> tuple[Path, float]:
    """The folder of a run without kills, and how long it takes once all is compiled."""
    for name in ("compiled", "undisturbed"):
        root = new_run(toys, name)
        start = time.monotonic()
        pair = Pair(root / "toy.yaml", cache)
        codes = pair.wait(1200)
        assert codes == [0, 0], f"{codes}: {pair.log.read_text()[-3000:]}"
        pair.keep_cache(cache)
    return root, time.monotonic() - start


def disturbed(
    root: Path,
    cache: Path,
    moments: list[tuple[float, tuple[int, ...]]],
) -> list[float]:
    """Trains to the end, with a kill at each moment: seconds after a start, and processes.

    Returns the seconds that the other process took to end after each kill.
    """
    ends: list[float] = []
    while True:
        pair = Pair(root / "toy.yaml", cache)
        if not moments:
            codes = pair.wait(1200)
            assert codes == [0, 0], f"{codes}: {pair.log.read_text()[-3000:]}"
            return ends
        seconds, numbers = moments[0]
        if pair.wait(seconds) is not None:  # it was complete before: the next one is killed earlier
            moments[0] = (seconds / 2, numbers)
            return ends
        del moments[0]
        for number in numbers:
            pair.processes[number].kill()
        start = time.monotonic()
        assert pair.wait(200) is not None, "the other process did not end"
        ends.append(time.monotonic() - start)


def assert_same_weights(root: Path, expected: Path) -> None:
    """Bit for bit, after every stage."""
    for stage in STAGES:
        found, wanted = (
            load_file(each / "run/stages" / stage / "model.safetensors")
            for each in (root, expected)
        )
        assert found.keys() == wanted.keys()
        for name, array in found.items():
            assert array.tobytes() == wanted[name].tobytes(), f"{stage}: {name}"


def main() -> None:
    """Kills until `--kills` are done, over as many runs as that takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--kills", type=int, default=30)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    rng = random.Random(options.seed)
    root, cache = options.folder, options.folder / "cache"
    (root / "toys").mkdir(parents=True)
    write_model(root / "toys/model", make_tiny_tokenizer())
    write_zoo(root / "toys/zoo")
    write_zoo_records(root / "toys/zoo.jsonl")
    expected, duration = undisturbed(root / "toys", cache)
    print(f"an undisturbed run takes {duration:.0f} s")  # noqa: T201
    moments = [
        (rng.uniform(0.1, 0.9) * duration, rng.choice([(0,), (1,), (0, 1)]))
        for _ in range(options.kills)
    ]
    runs, ends = 0, list[float]()
    while moments:
        run = new_run(root / "toys", f"run-{runs}")
        ends += disturbed(run, cache, moments)
        assert_same_weights(run, expected)
        runs += 1
        print(  # noqa: T201
            f"{runs} runs, {len(ends)} kills: the weights are those of the undisturbed run; the "
            f"other process ended after at most {max(ends, default=0):.0f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
