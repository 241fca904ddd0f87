"""A tiny random model, a small judged collection with thoughts, and runs that take seconds."""

import itertools
import os
import signal
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
import yaml

from t1_jax.config import load_config
from t1_jax.interrupt import Interrupt
from t1_jax.model import DecoderConfig, RopeConfig
from t1_jax.parallel import MeshContext, single_device_mesh_context
from t1_jax.retrieval import Collection, Document, Query, save_collection
from t1_jax.text import T1Tokenizer
from t1_jax.train import TrainConfig, TrainResult, train
from t1_jax.train.batches import StageState
from t1_jax.train.data import TrainingRecord, write_records
from t1_jax.train.rewards import RewardContext, register_reward
from t1_jax.train.stage import Stage
from tests.hf_folder import write_hf_folder

SHAPE = DecoderConfig(
    family="llama",
    vocab_size=403,
    vocab_multiple=8,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=4,
    head_dim=8,
    mlp_dim=48,
    norm_eps=1e-5,
    rope=RopeConfig(theta=1e4),
    max_positions=512,
)
ANIMALS = ("cat", "dog", "fish", "bird", "horse", "snake", "bee", "owl")
ASKED = {
    "train": ("Where is the {}?", "I see a {}.", "Tell me about the {}."),
    "validation": ("What does the {} eat?",),
    "test": ("My {} is ill.",),
}


def write_model(folder: Path, tokenizer: T1Tokenizer, *, seed: int = 0) -> Path:
    """A Hugging Face folder of random weights, whose tokenizer has a spare token."""
    return write_hf_folder(folder, SHAPE, tokenizer, scale=0.1, seed=seed)


def write_zoo(folder: Path) -> Path:
    """A collection of animals, each asked for in a few words; three splits."""
    documents = tuple(
        Document(id=name, title="", text=f"The animal is a {name}, which we call {name}.")
        for name in ANIMALS
    )
    splits = {}
    for split, patterns in ASKED.items():
        queries = {
            f"{split}-{name}-{number}": (name, pattern.format(name))
            for number, pattern in enumerate(patterns)
            for name in ANIMALS
        }
        splits[split] = Collection(
            name="zoo",
            documents=documents,
            queries=tuple(Query(id=key, text=text) for key, (_, text) in queries.items()),
            qrels={key: {name: 1} for key, (name, _) in queries.items()},
        )
    save_collection(splits, folder)
    return folder


def zoo_records(patterns: Sequence[str] = ASKED["train"]) -> list[TrainingRecord]:
    """Queries of these forms with a thought and two hard negatives each."""
    records = []
    for number, pattern in enumerate(patterns):
        for place, name in enumerate(ANIMALS):
            others = (ANIMALS[place - 1], ANIMALS[place - 2])
            records.append(
                TrainingRecord(
                    query_id=f"train-{name}-{number}",
                    query=pattern.format(name),
                    positives={name: 1},
                    negatives=others,
                    thoughts=(f"a {name}",),
                )
            )
    return records


def write_zoo_records(path: Path, records: list[TrainingRecord] | None = None) -> Path:
    """The records as a file."""
    write_records(path, records or zoo_records())
    return path


def merged(base: Mapping[str, Any], fields: Mapping[str, Any]) -> dict[str, Any]:
    """A nested mapping with some of its values replaced."""
    found = dict(base)
    for key, value in fields.items():
        deeper = isinstance(value, Mapping) and isinstance(found.get(key), Mapping)
        found[key] = merged(found[key], value) if deeper else value
    return found


SMALL: dict[str, Any] = {
    "data": {"batch_size": 4, "hard_negatives": 2},
    "micro_batch": {"rows": 8, "tokens": 1024, "length_step": 128},
    "optimizer": {"learning_rate": 3e-3, "warmup_ratio": 0.0, "schedule": "constant"},
}
S1: dict[str, Any] = {**SMALL, "losses": {"sft": 1}, "steps": 4}
S2: dict[str, Any] = {**SMALL, "losses": {"sft": 1, "infonce": 1, "triplet": 2}, "steps": 4}
S3: dict[str, Any] = {
    **SMALL,
    "losses": {"policy": 1, "infonce": 0.1},
    "steps": 4,
    "rollout": {"num_generations": 4, "max_thought_tokens": 6, "max_rows": 16},
    "pool": {"kind": "corpus", "refresh_steps": 3},
    "policy": {"loss": "grpo", "beta": 0.0},
}
NO_HEALTH = {"truncated_frac": None, "missing_emb_frac": None, "nonzero_std_frac": None,
             "entropy": None,
                  "mean_cosine": None}  # fmt: skip


FLAT_REWARD: dict[str, Any] = {
    "terms": {"flat_for_tests": 1, "format": 0, "length": 0, "log_rank": 0, "gap": 0}
}
"""Groups without variance."""


@register_reward("flat_for_tests")
def flat_for_tests(context: RewardContext) -> np.ndarray:
    """The same for every thought."""
    return np.ones(context.shape)


def toy_fields(
    root: Path, stages: Mapping[str, Mapping[str, Any]], /, **fields: Any
) -> dict[str, Any]:
    """The fields of a run on one device, as a config file would have them.

    Args:
        root: holds `model`, `zoo` and `zoo.jsonl`.
        stages: by name.
        fields: that differ.
    """
    base: dict[str, Any] = {
        "output": str(root / "run"),
        "model": {"path": str(root / "model"), "dtype": "float32", "remat": "none"},
        "data": {
            "sources": {
                "zoo": {"collection": str(root / "zoo"), "records": [str(root / "zoo.jsonl")]}
            },
            "lengths": {"query": 96, "thought": 8, "document": 64},
        },
        "stages": dict(stages),
        "validation": {"max_thought_tokens": 4, "queries": 4},
        "checkpoints": {"every_steps": 1000},
        "health": NO_HEALTH,
    }
    return merged(base, fields)


def toy_config(
    root: Path, stages: Mapping[str, Mapping[str, Any]], /, **fields: Any
) -> TrainConfig:
    """The same as a config."""
    path = root / "toy.yaml"
    path.write_text(yaml.safe_dump(toy_fields(root, stages, **fields), sort_keys=False))
    return load_config(TrainConfig, path)


class Recorder:
    """Watches every step of a run, and can send SIGTERM or cut the power after one of them.

    SIGTERM may also come within one: while the rollout of the step after `stop_within` is drawn.
    A rollout in advance is one of the next step.

    Attributes:
        states: step -> the state's arrays after it, by path.
        hosts: step -> what a checkpoint would hold beside them.
        positions: step -> where the stream of queries stands after it.
        metrics: step -> its metrics, without times and speeds.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.states: dict[int, dict[str, np.ndarray]] = {}
        self.hosts: dict[int, dict[str, np.ndarray]] = {}
        self.positions: dict[int, dict[str, Any]] = {}
        self.metrics: dict[int, dict[str, float]] = {}
        self.stop_after: int | None = None
        self.fail_after: int | None = None
        self.stop_within: int | None = None
        step = Stage.step

        def watched(stage: Stage, state: StageState, number: int) -> Any:
            if number == self.fail_after:
                raise PowerCut
            if number == self.stop_within:
                _sigterm_at_second_check(stage.interrupt)
            state, report = step(stage, state, number)
            source = stage.state_dict()
            self.states[number + 1] = leaves_of(state)
            self.hosts[number + 1] = {k: v.copy() for k, v in source["arrays"].items()}
            self.positions[number + 1] = source["position"]
            self.metrics[number + 1] = {
                name: value for name, value in report.metrics.items() if not name.startswith("time")
            }
            if number + 1 == self.stop_after:
                os.kill(os.getpid(), signal.SIGTERM)
            return state, report

        monkeypatch.setattr(Stage, "step", watched)


def _sigterm_at_second_check(interrupt: Interrupt) -> None:
    """SIGTERM comes before the second block of tokens or batch of rows."""
    requested, checks = interrupt.requested, itertools.count(1)

    def counted() -> bool:
        if next(checks) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return requested()

    interrupt.requested = counted


class PowerCut(BaseException):
    """Nothing is saved or logged."""


def leaves_of(state: Any) -> dict[str, np.ndarray]:
    """A state's arrays by their paths, on the host."""
    return {
        jax.tree_util.keystr(path): np.array(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(state)
    }


def SILENT(text: str) -> None:  # noqa: N802 - a test replaces it
    """Hears what a run says."""


def run_toy(config: TrainConfig, mesh_context: MeshContext | None = None) -> TrainResult:
    """Trains on one device, or as `placement` says, without a word."""
    return train(
        config,
        log=SILENT,
        show_progress=False,
        mesh_context=mesh_context or single_device_mesh_context(),
    )
