"""A tiny random model and a small collection with thoughts, made where they are needed."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any

import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from t1_jax.config import load_config
from t1_jax.model import DecoderConfig, RopeConfig
from t1_jax.retrieval import Collection, Document, Query, save_collection
from t1_jax.text import T1Tokenizer
from t1_jax.train import TrainConfig
from t1_jax.train.data import TrainingRecord, write_records
from tests.hf_folder import write_hf_folder

SETS = ("zoo", "farm")
_ANIMALS = ("cat", "dog", "fish", "bird", "horse", "snake", "bee", "owl")
_ASKED = {
    "train": ("Where is the {}?", "I see a {}.", "Tell me about the {}."),
    "validation": ("What does the {} eat?",),
    "test": ("My {} is ill.",),
}
_SHAPE = DecoderConfig(
    family="llama",
    vocab_size=400,
    vocab_multiple=8,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=48,
    norm_eps=1e-5,
    rope=RopeConfig(theta=1e4),
    max_positions=512,
)
_SMALL: dict[str, Any] = {
    "data": {"batch_size": 4, "hard_negatives": 1},
    "micro_batch": {"rows": 8, "tokens": 1024, "length_step": 128, "keep_residuals": True},
    "optimizer": {"learning_rate": 3e-3, "warmup_ratio": 0.0, "schedule": "constant"},
}
STAGES: dict[str, dict[str, Any]] = {
    "s1": {**_SMALL, "losses": {"sft": 1}, "steps": 2},
    "s2": {**_SMALL, "losses": {"sft": 1, "infonce": 1, "triplet": 2}, "steps": 2},
    "s3": {
        **_SMALL,
        "losses": {"policy": 1, "infonce": 0.1},
        "steps": 2,
        "rollout": {"num_generations": 2, "max_thought_tokens": 4, "max_rows": 8},
        "pool": {"kind": "corpus", "refresh_steps": 3},
        "policy": {"loss": "dapo"},
    },
}
_NO_HEALTH = dict.fromkeys(
    ("truncated_frac", "missing_emb_frac", "nonzero_std_frac", "entropy", "mean_cosine")
)


def toy_files(folder: Path) -> Path:
    """A folder with `model`, and a collection and records for each of `SETS`; made once.

    Two parts may make it at the same time; the first to finish wins.
    """
    if folder.exists():
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        scratch = Path(name) / "made"
        scratch.mkdir()
        write_hf_folder(scratch / "model", _SHAPE, _tokenizer(), scale=0.1)
        for one in SETS:
            save_collection(_splits(one), scratch / one)
            write_records(scratch / f"{one}.jsonl", _records(one))
        if not folder.exists():
            with contextlib.suppress(OSError):  # it appeared meanwhile, and is not empty
                scratch.rename(folder)
    return folder


def toy_config(folder: Path, output: Path, stages: tuple[str, ...]) -> TrainConfig:
    """A run of some of `STAGES` over the toy files, in float32."""
    fields = {
        "output": str(output),
        "model": {"path": str(folder / "model"), "dtype": "float32", "remat": "none"},
        "data": {
            "sources": {
                "zoo": {
                    "collection": str(folder / "zoo"),
                    "records": [str(folder / "zoo.jsonl")],
                }
            },
            "lengths": {"query": 96, "thought": 8, "document": 64},
        },
        "stages": {name: STAGES[name] for name in stages},
        "validation": {"max_thought_tokens": 4, "queries": 4},
        "checkpoints": {"every_steps": 1000},
        "health": _NO_HEALTH,
    }
    path = output.with_suffix(".yaml")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(yaml.safe_dump(fields, sort_keys=False), encoding="utf-8")
    return load_config(TrainConfig, path)


def _tokenizer() -> T1Tokenizer:
    """A byte-level BPE of 400 ids with ChatML's special tokens."""
    specials = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<emb_token>"]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=specials,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    texts = [pattern.format(name) for name in _ANIMALS for pattern in _ASKED["train"]]
    tokenizer.train_from_iterator(
        [*texts, "user\nassistant\nRepresent this passage for retrieval.\nQuery: "], trainer
    )
    return T1Tokenizer(tokenizer, emb_token_id=3, eos_ids={0, 2}, pad_id=0)


def _splits(name: str) -> dict[str, Collection]:
    documents = tuple(
        Document(id=animal, title="", text=f"In the {name} lives a {animal}, we call it {animal}.")
        for animal in _ANIMALS
    )
    splits = {}
    for split, patterns in _ASKED.items():
        asked = {
            f"{split}-{animal}-{number}": (animal, f"{name}: {pattern.format(animal)}")
            for number, pattern in enumerate(patterns)
            for animal in _ANIMALS
        }
        splits[split] = Collection(
            name=name,
            documents=documents,
            queries=tuple(Query(id=key, text=text) for key, (_, text) in asked.items()),
            qrels={key: {animal: 1} for key, (animal, _) in asked.items()},
        )
    return splits


def _records(name: str) -> list[TrainingRecord]:
    return [
        TrainingRecord(
            query_id=f"train-{animal}-{number}",
            query=f"{name}: {pattern.format(animal)}",
            positives={animal: 1},
            negatives=(_ANIMALS[place - 1], _ANIMALS[place - 2]),
            thoughts=(f"a {animal}",),
        )
        for number, pattern in enumerate(_ASKED["train"])
        for place, animal in enumerate(_ANIMALS)
    ]
