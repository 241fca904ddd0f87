"""A training config for a model, a device, some pairs and a number of minutes."""

import json
import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from t1_jax.config import load_config
from t1_jax.errors import ConfigError
from t1_jax.model import DecoderConfig, body_parameters
from t1_jax.text import PromptPreset, T1Tokenizer, tokenize_documents, tokenize_queries
from t1_jax.train.config import TrainConfig
from t1_jax.train.data import COLLECTION, RECORDS, PreparedPairs
from t1_jax.train.estimate import DataSize, Estimate, Speed

_SAMPLED_TEXTS = 1000
_NO_LIMIT = 2**31
_PERCENTILE = 95
_SMALL, _MEDIUM = 0.5e9, 2e9
"""Parameters up to which a model counts as small and as medium."""

_SHARES = {"s1": 0.1, "s2": 0.65, "s3": 0.25}
"""Parts of the training time that the stages get."""

_LEAST_STEPS = {"s1": 4, "s2": 8, "s3": 4}
_MAX_EPOCHS = {"s1": 1.0, "s2": 12.0, "s3": 3.0}
_MIN_EPOCH_STEPS = {"s1": 12, "s2": 60, "s3": 20}
"""Steps that a stage may take on few pairs, although they are more epochs."""

_BYTES_PER_PARAMETER = 6
"""Frozen weights in float32, and the sampler's copy in bfloat16."""


@dataclass(frozen=True, kw_only=True)
class Device:
    """What the choice of a recipe needs to know of the devices.

    Attributes:
        platform: "cpu", "gpu" or "tpu".
        count: number of devices.
        memory: bytes of memory of one device.
    """

    platform: str
    count: int
    memory: int

    @property
    def is_cpu(self) -> bool:
        """Whether training runs on the cores of the host."""
        return self.platform == "cpu"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A run that has been planned.

    Attributes:
        tree: the training config, as its YAML file has it.
        steps: stage -> steps.
        stage_seconds: stage -> estimated seconds.
        other_seconds: estimated seconds of validations and compilation.
        size: sizes of the data, for further estimates.
    """

    tree: dict[str, Any]
    steps: dict[str, int]
    stage_seconds: dict[str, float]
    other_seconds: float
    size: DataSize

    @property
    def seconds(self) -> float:
        """Estimated seconds of training."""
        return sum(self.stage_seconds.values()) + self.other_seconds


def device_of_jax() -> Device:
    """The devices of this process."""
    device = jax.local_devices()[0]
    platform = "gpu" if device.platform in ("cuda", "rocm") else device.platform
    if platform == "cpu":
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Device(platform=platform, count=1, memory=memory)
    stats = device.memory_stats() or {}
    return Device(
        platform=platform,
        count=jax.device_count(),
        memory=int(stats.get("bytes_limit", 16 << 30)),
    )


@dataclass(frozen=True, kw_only=True)
class BaseModel:
    """The model to train, before its weights are read.

    Attributes:
        path: name or folder.
        shape: of its decoder.
        tokenizer: its tokenizer.
        is_adapter: whether it is an adapter, which is trained further.
        is_trained: whether it has been trained to retrieve, so that it keeps its prompts.
        preset: its prompts.
    """

    path: str
    shape: DecoderConfig
    tokenizer: T1Tokenizer
    is_adapter: bool
    is_trained: bool
    preset: PromptPreset

    @property
    def parameters(self) -> int:
        """Number of parameters, estimated from the shape."""
        tables = (1 if self.shape.tie_embeddings else 2) * self.shape.vocab_size
        return body_parameters(self.shape) + tables * self.shape.embed_dim

    @property
    def size(self) -> Literal["small", "medium", "large"]:
        """By number of parameters."""
        if self.parameters <= _SMALL:
            return "small"
        return "medium" if self.parameters <= _MEDIUM else "large"


def choose_recipe(
    model: BaseModel,
    prepared: PreparedPairs,
    folder: Path,
    device: Device,
    speed: Speed,
    *,
    minutes: float,
) -> Plan:
    """The three stages of T1 for this model, these data and this device, within so many minutes.

    Adapters are trained (LoRA): they fit every device that holds the model, and need the least
    data. Lengths cover 95 % of the texts, within bounds that the device can compute.

    Args:
        model: the model to train.
        prepared: the data, saved in `folder`.
        folder: of the prepared data; the run folder is `train` in it.
        device: where it is trained.
        speed: see `measure_speed`.
        minutes: for the steps, validations and compilation.

    Raises:
        ConfigError: the model does not fit the devices.
    """
    mesh = _mesh(model, device)
    lengths, size = _lengths(model, prepared, device)
    validates = "validation" in prepared.splits
    tree: dict[str, Any] = {
        "output": str(folder / "train"),
        "model": _model_fields(model),
        "mesh": mesh,
        "data": {
            "sources": {
                "pairs": {
                    "collection": str(folder / COLLECTION),
                    "records": [str(folder / RECORDS)],
                }
            },
            "lengths": lengths,
            # The splits were made without leaks; a document may still quote a held-out query.
            "leaks": "remove",
        },
        "stages": _stages(model, prepared, device, lengths),
        "validation": None,
        "checkpoints": {"every_steps": 25},
    }
    if validates:
        tree["validate_first"] = True
        tree["validation"] = {
            "queries": 40 if device.is_cpu else 100,
            "max_thought_tokens": _sampled_tokens(lengths),
            "documents": 100 if device.is_cpu else 5000,
        }
    return _fitted(tree, model, size, speed, minutes)


def _fitted(
    tree: dict[str, Any], model: BaseModel, size: DataSize, speed: Speed, minutes: float
) -> Plan:
    """The tree with as many steps as fit into the minutes, up to a few epochs."""
    config = config_of(tree)
    estimate = Estimate(model.shape, size, speed)
    once = {name: estimate.step(stage) for name, stage in config.stages.items()}
    overhead = speed.compile_seconds + estimate.validations(config, dict.fromkeys(once, 1))
    budget = max(60 * minutes - overhead, 0.0)
    steps = {}
    for name, seconds in once.items():
        batch = config.stages[name].data.batch_size
        most = max(math.ceil(_MAX_EPOCHS[name] * size.queries / batch), _MIN_EPOCH_STEPS[name])
        steps[name] = min(max(int(_SHARES[name] * budget / seconds), _LEAST_STEPS[name]), most)
        tree["stages"][name]["steps"] = steps[name]
    if tree["validation"] is not None:
        tree["stages"]["s2"]["validate_every"] = max(steps["s2"] // 2, 1)
    config = config_of(tree)
    return Plan(
        tree=tree,
        steps=steps,
        stage_seconds={name: steps[name] * once[name] for name in steps},
        other_seconds=speed.compile_seconds + estimate.validations(config, steps),
        size=size,
    )


def config_of(tree: dict[str, Any], overrides: Sequence[str] = ()) -> TrainConfig:
    """The config that a tree of its fields describes, with `key.sub=value` on top of it."""
    fields = [f"{key}={json.dumps(tree[key])}" for key in tree]
    return load_config(TrainConfig, None, [*fields, *overrides])


def _mesh(model: BaseModel, device: Device) -> dict[str, int]:
    """Replicas if the weights fit one device; else the weights are sharded over all devices."""
    needed = _BYTES_PER_PARAMETER * model.parameters
    if needed <= 0.6 * device.memory:
        return {"data": -1}
    if device.count > 1 and needed / device.count <= 0.6 * device.memory:
        return {"data": 1, "fsdp": device.count}
    raise ConfigError(
        f"{model.path} has {model.parameters / 1e9:.1f} billion parameters and needs about "
        f"{needed / 1e9:.0f} GB for training; {device.count} x {device.platform} has "
        f"{device.count * device.memory / 1e9:.0f} GB",
        hint="train a smaller model: -m smollm2-135m-instruct",
    )


def _model_fields(model: BaseModel) -> dict[str, Any]:
    fields: dict[str, Any] = {
        "path": model.path,
        "remat": "projections" if model.size == "small" else "full",
    }
    if model.is_adapter:
        return fields
    rank = 16 if model.size == "small" else 32
    fields["lora"] = {"rank": rank, "alpha": 2 * rank}
    if not model.is_trained:
        fields["emb_token_init"] = "end"
        fields["preset"] = model.preset.name
    return fields


def _lengths(
    model: BaseModel, prepared: PreparedPairs, device: Device
) -> tuple[dict[str, int], DataSize]:
    """Maximum lengths of query, thought and document, and the mean lengths within them."""
    tokenizer, preset = model.tokenizer, model.preset
    records = _sample(prepared.training.records)
    queries = tokenize_queries(
        tokenizer, preset, [record.query for record in records], max_tokens=_NO_LIMIT
    )
    documents = tokenize_documents(
        tokenizer,
        preset,
        [item.full_text for item in _sample(tuple(prepared.training.documents.values()))],
        max_tokens=_NO_LIMIT,
    )
    found = {
        "query": [len(row.ids) for row in queries],
        "thought": [len(tokenizer.encode_thought(record.thoughts[0])) for record in records],
        "document": [len(row.ids) for row in documents],
    }
    most = {"query": 96, "thought": 48, "document": 128}
    if not device.is_cpu:
        most = {"query": 512, "thought": 256, "document": 1024}
    if preset.uses_instruction:
        most = {name: limit + 32 for name, limit in most.items()}
    lengths = {
        name: min(_rounded(np.percentile(values, _PERCENTILE)), most[name], _context(model, name))
        for name, values in found.items()
    }
    means = {
        name: float(np.mean(np.minimum(values, lengths[name]))) for name, values in found.items()
    }
    validation = prepared.splits.get("validation")
    size = DataSize(
        queries=len(prepared.training.records),
        validation_queries=len(validation.queries) if validation else 0,
        documents=len(prepared.training.documents),
        query_tokens=means["query"],
        thought_tokens=means["thought"],
        document_tokens=means["document"],
    )
    return lengths, size


def _sampled_tokens(lengths: dict[str, int]) -> int:
    """Most tokens of a sampled thought: more than a reference has, so that few are truncated."""
    return -(-lengths["thought"] * 4 // 3)


def _context(model: BaseModel, name: str) -> int:
    """Most tokens of a text: a query leaves half of the context to its thoughts."""
    return model.shape.max_positions // (1 if name == "document" else 4)


def _rounded(length: float) -> int:
    """A little more than the length, on a grid that is the same for similar data.

    Equal lengths let a later run use the compiled programs of an earlier one.
    """
    step = 8 if length <= 64 else 2 ** (int(math.log2(length)) - 2)
    return max(-(-math.ceil(length) // step) * step, 24)


def _sample(items: tuple[Any, ...]) -> list[Any]:
    return list(items[:: max(len(items) // _SAMPLED_TEXTS, 1)])


def _stages(
    model: BaseModel, prepared: PreparedPairs, device: Device, lengths: dict[str, int]
) -> dict[str, Any]:
    """The stages without their steps, after configs/experiment/t1.yaml and configs/untested/."""
    batches = {"s1": 32, "s2": 32, "s3": 16} if device.is_cpu else {"s1": 128, "s2": 256, "s3": 64}
    available = len(prepared.training.records)
    batches = {name: max(min(size, available), 1) for name, size in batches.items()}
    rates = {"small": (2e-3, 1e-3, 1e-4), "medium": (5e-4, 3e-4, 3e-5), "large": (2e-4, 1e-4, 1e-5)}
    # A model that retrieves already loses less of it at half the rate.
    factor = 0.5 if model.is_trained else 1.0
    cold_rate, joint_rate, policy_rate = (factor * rate for rate in rates[model.size])
    micro_batch = _micro_batch(model, device, lengths)
    has_negatives = any(record.negatives for record in prepared.training.records)
    rollout = {
        "max_thought_tokens": _sampled_tokens(lengths),
        "max_rows": 128 if device.is_cpu else 512,
    }
    return {
        "s1": {
            "losses": {"sft": 1.0},
            "steps": 1,
            "data": {"batch_size": batches["s1"], "thoughts": "required"},
            "micro_batch": micro_batch,
            "optimizer": {"learning_rate": cold_rate},
        },
        "s2": {
            "losses": {"sft": 1.0, "infonce": 1.0},
            "sample_thoughts": True,
            "contrast_reference_thoughts": True,
            "steps": 1,
            "data": {
                "batch_size": batches["s2"],
                "hard_negatives": (1 if device.is_cpu else 4) if has_negatives else 0,
                "thoughts": "required",
            },
            "micro_batch": micro_batch,
            "optimizer": {"learning_rate": joint_rate},
            "rollout": {**rollout, "num_generations": 1, "temperature": 0.7},
            "contrastive": {"temperature": 0.05},
        },
        "s3": {
            "losses": {"policy": 1.0, "infonce": 0.1},
            "steps": 1,
            "data": {"batch_size": batches["s3"], "hard_negatives": 0},
            "micro_batch": micro_batch,
            "optimizer": {"learning_rate": policy_rate},
            "rollout": {**rollout, "num_generations": 8},
            "reward": {"terms": {"format": 0.2, "length": 0.0, "log_rank": 1.0, "gap": 1.0}},
            "contrastive": {"temperature": 0.05},
            "pool": _pool(prepared, device),
            "policy": {"loss": "grpo", "beta": 0.0},
            "advantage": {"kind": "grpo"},
        },
    }


def _pool(prepared: PreparedPairs, device: Device) -> dict[str, Any]:
    """The whole corpus if it is encoded quickly; else the documents of the step."""
    most = 500 if device.is_cpu else 50_000
    if len(prepared.training.documents) <= most:
        return {"kind": "corpus", "refresh_steps": 25}
    return {"kind": "batch"}


def _micro_batch(model: BaseModel, device: Device, lengths: dict[str, int]) -> dict[str, Any]:
    """Rows and tokens that are computed at once, from the memory of the device."""
    longest_text = max(lengths["document"], lengths["query"])
    longest = max(longest_text, lengths["query"] + 9 * (_sampled_tokens(lengths) + 1))
    length_step = max(24, _rounded(longest_text / 3))
    if device.is_cpu:
        tokens = max(4096, 2 * longest)
        return {
            "rows": 16,
            "tokens": tokens,
            "length_step": length_step,
            "keep_residuals": model.size == "small",
        }
    shape = model.shape
    bytes_per_token = 2 * shape.num_layers * (12 * shape.embed_dim + 4 * shape.mlp_dim)
    fitting = 2 ** int(math.log2(max(0.2 * device.memory / bytes_per_token, 1)))
    tokens = max(min(fitting, 32_768), 2 * longest)
    return {"rows": 128, "tokens": tokens, "length_step": -(-length_step // 32) * 32}
