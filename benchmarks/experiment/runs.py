"""The folder of a `t1 train` run: its weights, training tokens and validation curve."""

import hashlib
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from t1_jax.errors import DataError
from t1_jax.files import sha256_of

_VALIDATED = "validation/ndcg@10"


def find_weights(path: Path) -> Path | None:
    """The folder that `T1.load` takes: `path` itself, or the last stage of the run at `path`.

    None if there is nothing, or the run is not finished.
    """
    if _holds_weights(path):
        return path
    if not (path / "config.yaml").is_file():
        return None
    config = _config(path)
    stages = [name for name in config["stages"] if not config["run"] or name in config["run"]]
    weights = path / "stages" / stages[-1]
    return weights if _holds_weights(weights) else None


def fingerprint(weights: Path) -> str:
    """Hex SHA-256 of all files in a folder of weights except its card."""
    digest = hashlib.sha256()
    for file in sorted(weights.rglob("*")):
        if file.is_file() and file.name != "README.md":
            digest.update(f"{file.relative_to(weights).as_posix()} {sha256_of(file)}\n".encode())
    return digest.hexdigest()


def run_of(weights: Path) -> Path | None:
    """The run folder whose `stages/NAME` or `best` is `weights`, or None."""
    for folder in (weights.parent, weights.parent.parent):
        if (folder / "config.yaml").is_file() and (folder / "metrics.jsonl").is_file():
            return folder
    return None


def training_tokens(weights: Path) -> int | None:
    """Tokens read to train these weights, including earlier runs.

    None if unknown: weights from elsewhere, or a run that did not log this step.
    """
    run = run_of(weights)
    if run is None:
        return None
    last = sum(steps_of(weights).values())
    tokens = [
        int(line["tokens"])
        for line in _metrics(run)
        if line["step"] == last and line.get("tokens") is not None
    ]
    if not tokens:
        return None
    start = find_weights(Path(_config(run)["model"]["path"]))
    if start is None or run_of(start) is None:
        return tokens[0]  # from a base model
    before = training_tokens(start)
    return None if before is None else tokens[0] + before


def steps_of(weights: Path) -> dict[str, int]:
    """Stage -> steps in order, from the card of exported weights."""
    card = weights / "README.md"
    if not card.is_file():
        return {}
    text = card.read_text(encoding="utf-8")
    return {name: int(n) for name, n in re.findall(r"^- `([^`]+)`: (\d+) steps of ", text, re.M)}


def validation_curve(run: Path) -> dict[str, Any] | None:
    """Validation scores of a run and the ends of its stages; None without validation."""
    points = [
        {"step": line["step"], "tokens": int(line.get("tokens") or 0)}
        | {
            name: round(value, 5)
            for name, value in line.items()
            if name.startswith("validation/") and value is not None
        }
        for line in _metrics(run)
        if line.get(_VALIDATED) is not None
    ]
    if not points:
        return None
    cards = [steps_of(stage) for stage in sorted((run / "stages").glob("*"))]
    ends, done = {}, 0
    for name, steps in max(cards, key=len, default={}).items():
        done += steps
        ends[name] = done
    return {"run": run.name, "stage_ends": ends, "points": points}


def _holds_weights(path: Path) -> bool:
    return any((path / name).is_file() for name in ("adapter_config.json", "config.json"))


def _config(run: Path) -> Mapping[str, Any]:
    file = run / "config.yaml"
    config = yaml.safe_load(file.read_text(encoding="utf-8"))
    if not isinstance(config, Mapping) or not {"stages", "run", "model"} <= set(config):
        raise DataError(f"{file} is not the config of a training run")
    return config


def _metrics(run: Path) -> list[dict[str, Any]]:
    """Complete lines of metrics.jsonl; a running process may be writing the last one."""
    text = (run / "metrics.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.split("\n")[:-1]]
