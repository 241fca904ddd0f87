"""A run that is killed after some steps: `python -m tests.train.killed CONFIG STEPS`."""

import os
import signal
import sys
from pathlib import Path
from typing import Any

import jax

from t1_jax.config import load_config
from t1_jax.train import TrainConfig
from t1_jax.train.batches import StageState
from t1_jax.train.stage import Stage
from tests.train.toy_runs import run_toy


def main(config: str, steps: str) -> None:
    """Trains under the numerics of the tests until the power goes."""
    jax.config.update("jax_num_cpu_devices", 8)
    jax.config.update("jax_default_matmul_precision", "float32")
    step = Stage.step

    def watched(self: Stage, state: StageState, number: int) -> Any:
        found = step(self, state, number)
        if number + 1 == int(steps):
            os.kill(os.getpid(), signal.SIGKILL)
        return found

    setattr(Stage, "step", watched)  # noqa: B010 - as monkeypatch does
    run_toy(load_config(TrainConfig, Path(config)))


if __name__ == "__main__":
    main(*sys.argv[1:])
