"""The reference experiment at a GPU's size, for the time that is left; a second run goes on."""

import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.gpu.experiment import experiment_config
from benchmarks.gpu.pieces import KEPT_BYTES, MANIFEST, join_folder, split_folder
from benchmarks.gpu.record import Record
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.train import train

_SAVING_SECONDS = 45
"""Kept free for the last step, its checkpoint and its packing."""
_OVERRIDES = ("checkpoints.keep_last=1", "checkpoints.keep_best=0", "tracking.every_steps=5")


def check(setting: Setting, record: Record) -> None:
    """Trains until the time is nearly over, tells how fast, and packs what must be kept."""
    run = setting.work / "training"
    _take_up(setting, run, record)
    minutes = max(setting.seconds - _SAVING_SECONDS, 15) / 60
    overrides = [*_OVERRIDES, f"max_minutes={minutes:.3f}", "resume=true"]
    if setting.toy:
        # A step of stage 3 under the same config is what the part `rollout` times.
        overrides += ["run=[s1, s2]", "stages.s1.steps=1", "stages.s2.steps=1"]
    try:
        config = experiment_config(setting, run, *overrides)
        result = train(config, log=print, show_progress=False)
        record.fact("training", result.stopped or "all stages are done")
        record.measure("steps done in all", result.steps, "steps")
    finally:
        _tell_speed(run, record)
        _keep(setting, run, record)


def _take_up(setting: Setting, run: Path, record: Record) -> None:
    """Goes on with the run that lies in the work folder, or that an earlier check packed."""
    if run.exists() or not list(setting.pack.rglob(f"training.{MANIFEST}")):
        return
    for name in ("training", "adapters"):
        join_folder(setting.pack, run, name=name)
    record.fact("training goes on", "from the pack")


def _tell_speed(run: Path, record: Record) -> None:
    """Tokens/s, MFU and the parts of a step by stage, and every validation."""
    by_stage: dict[str, list[dict[str, Any]]] = {}
    for line in _log(run):
        stage = "s3" if "reward" in line else "s2" if "loss/infonce" in line else "s1"
        if "tokens_per_second" in line:
            by_stage.setdefault(stage, []).append(line)
        for name in sorted(line):
            if name.startswith("validation/") and name.endswith("ndcg@10"):
                record.measure(f"training, step {line['step']}: {name}", line[name], "nDCG@10")
    for stage, lines in by_stage.items():

        def median(name: str, lines: list[dict[str, Any]] = lines) -> float | None:
            values = [line[name] for line in lines if name in line]
            return float(np.median(values)) if values else None

        split = ", ".join(
            f"{part} {seconds:.2f} s"
            for part in ("rollout", "refresh", "reward", "data", "update", "wait")
            if (seconds := median(f"time/{part}")) is not None
        )
        record.measure(
            f"training, {stage}",
            median("tokens_per_second") or 0.0,
            "tokens/s",
            share=median("mfu"),
            of="peak FLOP/s",
            note=f"up to step {lines[-1]['step']}; {split}",
        )


def _log(run: Path) -> Iterator[dict[str, Any]]:
    path = run / "metrics.jsonl"
    if path.exists():
        for line in path.read_text(encoding="utf-8").splitlines():
            yield json.loads(line)


def _keep(setting: Setting, run: Path, record: Record) -> None:
    """The exported adapters; and in the work folder what a second run needs beside them."""
    if not run.is_dir():
        return
    folders = [folder for folder in (run / "stages", run / "best") if folder.is_dir()]
    if folders:
        _pieces(setting, folders, setting.output, "adapters", record)
    rest = [item for item in run.iterdir() if item.name not in ("stages", "best")]
    _pieces(setting, rest, setting.work / "kept", "training", record)


def _pieces(
    setting: Setting, items: Sequence[Path], target: Path, name: str, record: Record
) -> None:
    scratch = setting.work / f"{name}-kept"
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for item in items:
        copy = shutil.copytree if item.is_dir() else shutil.copy
        copy(item, scratch / item.name)
    pieces = split_folder(scratch, target, most_bytes=KEPT_BYTES, name=name)
    shutil.rmtree(scratch)
    size = sum(piece.stat().st_size for piece in pieces)
    record.fact(f"{name} kept", f"{len(pieces)} pieces, {size / (1 << 20):.1f} MiB")


if __name__ == "__main__":
    run_part(check)
