"""A run that is stopped and taken up again ends in the same weights as one that was not."""

import os
import shutil
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from benchmarks.gpu.record import Record
from benchmarks.gpu.setting import Setting, run_part
from benchmarks.gpu.toy import STAGES, toy_config, toy_files
from t1_jax.train import TrainConfig, train
from t1_jax.train.batches import StageState
from t1_jax.train.stage import Stage


def check(setting: Setting, record: Record) -> None:
    """Stages of two steps each; the second run gets SIGTERM in the middle of each stage."""
    files = toy_files(setting.work / "toy")
    # A rehearsal shows that the check itself works; the tests stop and resume every stage.
    names = ("s1",) if setting.toy else tuple(STAGES)
    straight, stopped, again = (setting.work / f"resume-{n}" for n in ("one", "two", "three"))
    for folder in (straight, stopped, again):
        shutil.rmtree(folder, ignore_errors=True)
    with record.case("N steps, stop, N steps"):
        train(toy_config(files, straight, names), log=print, show_progress=False)
        config = toy_config(files, stopped, names)
        for number in range(len(names)):
            _train_until(config, 2 * number + 1)
        train(config, log=print, show_progress=False)
        record.check(
            "differing bytes of weights, stopped in every stage",
            _differ(straight, stopped, names),
            0,
        )
    with record.case("two equal runs"):
        train(toy_config(files, again, names), log=print, show_progress=False)
        record.check("differing bytes of weights, run twice", _differ(straight, again, names), 0)


def _train_until(config: TrainConfig, last: int) -> None:
    """Trains until SIGTERM comes after the step of this number, as a preempted machine does."""
    step = Stage.step

    def watched(self: Stage, state: StageState, number: int) -> Any:
        found = step(self, state, number)
        if number + 1 == last:
            os.kill(os.getpid(), signal.SIGTERM)
        return found

    setattr(Stage, "step", watched)  # noqa: B010 - the type checker must not take it for ours
    try:
        train(config, log=print, show_progress=False)
    finally:
        setattr(Stage, "step", step)  # noqa: B010


def _differ(one: Path, other: Path, names: Sequence[str]) -> float:
    """Bytes in which the exported weights of all stages differ."""
    count = 0
    for stage in names:
        folders = [run / "stages" / stage for run in (one, other)]
        first, second = (load_file(folder / "model.safetensors") for folder in folders)
        if first.keys() != second.keys():
            raise ValueError(f"{folders[0]} and {folders[1]} hold different tensors")
        for name, tensor in first.items():
            pair = (tensor.view(np.uint8), second[name].view(np.uint8))
            count += int(np.sum(pair[0] != pair[1]))
    return float(count)


if __name__ == "__main__":
    run_part(check)
