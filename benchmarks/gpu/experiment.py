"""The reference experiment as it runs on a machine that has nothing but the pack."""

import json
from pathlib import Path

from benchmarks.gpu.setting import Setting
from benchmarks.gpu.toy import SETS, toy_files
from t1_jax.config import load_config
from t1_jax.hub import open_collection
from t1_jax.retrieval import Collection
from t1_jax.train import TrainConfig

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs" / "untested" / "t1_gpu.yaml"
MODEL = ROOT / "models" / "t1-smollm2-135m"
COLLECTIONS = ("cwe", "ruff")
_TOY_STAGE = (
    "data.batch_size=4",
    "data.corpus_pair_fraction=null",
    "micro_batch.rows=4",
    # One length for all rows, so that few programs are compiled.
    "micro_batch.length_step=128",
    "validate_every=0",
)
_TOY = (
    "model.dtype=float32",
    "model.remat=none",
    "model.preset=t1",
    "model.lora.rank=2",
    "data.lengths.query=96",
    "data.lengths.thought=8",
    "data.lengths.document=64",
    "stages.s2.rollout.num_generations=1",
    "stages.s2.rollout.max_thought_tokens=4",
    "stages.s2.rollout.max_rows=4",
    "stages.s3.rollout.num_generations=2",
    "stages.s3.rollout.max_thought_tokens=4",
    "stages.s3.rollout.max_rows=8",
    "validation.max_thought_tokens=4",
    "validation.queries=4",
    *(f"stages.{stage}.{one}" for stage in ("s1", "s2", "s3") for one in _TOY_STAGE),
)


def answering_model(setting: Setting) -> Path:
    """The model whose answers are stored in the pack."""
    return toy_files(setting.work / "toy") / "model" if setting.toy else MODEL


def answered_collection(setting: Setting) -> Collection:
    """The collection whose texts are asked: its validation split, which no training reads."""
    if setting.toy:
        return open_collection(str(toy_files(setting.work / "toy") / SETS[0]), "validation")
    return open_collection(COLLECTIONS[0], "validation")


def experiment_config(setting: Setting, output: Path, *overrides: str) -> TrainConfig:
    """`t1_gpu.yaml` on the pack's records; on the toy's files, at toy size, in a rehearsal."""
    given = [f"output={output}", "data.leaks=remove"]
    for source, toy in zip(COLLECTIONS, SETS, strict=True):
        key = f"data.sources.{source}"
        records = setting.pack / "records" / f"{source}.jsonl"
        if setting.toy:
            files = toy_files(setting.work / "toy")
            given.append(f"{key}.collection={json.dumps(str(files / toy))}")
            records = files / f"{toy}.jsonl"
        # The pack's records hold those made of the corpus too.
        given += [f"{key}.records={json.dumps([str(records)])}", f"{key}.documents=false"]
    if setting.toy:
        given += [f"model.path={toy_files(setting.work / 'toy') / 'model'}", *_TOY]
        given.append(f"health={json.dumps(_no_health())}")
    return load_config(TrainConfig, CONFIG, [*given, *overrides])


def _no_health() -> dict[str, None]:
    names = ("truncated_frac", "missing_emb_frac", "nonzero_std_frac", "entropy", "mean_cosine")
    return dict.fromkeys(names)
