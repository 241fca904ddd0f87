"""A stage-3 step, split into rollout, reward and update, with the experiment's own texts."""

import functools
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from benchmarks.gpu.experiment import experiment_config
from benchmarks.gpu.models import random_decoder, shape
from benchmarks.gpu.record import Record
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.model import (
    Decoder,
    LoraConfig,
    ModelOptions,
    TokenMask,
    add_lora,
    trainable_filter,
)
from t1_jax.parallel import Placement, single_device_placement
from t1_jax.train import TrainConfig
from t1_jax.train.learner import Student, load_student, open_student
from t1_jax.train.rows import RowMaker
from t1_jax.train.sources import TrainingData, load_training_data
from t1_jax.train.stage import Stage
from t1_jax.train.step import Learner

_PARTS = ("rollout", "refresh", "reward", "data", "update")


def check(setting: Setting, record: Record) -> None:
    """The 135M model that ships, then the body of Qwen3-0.6B with its vocabulary."""
    config = experiment_config(
        setting, setting.work / "rollout", "stages.s3.rollout.prefetch=false"
    )
    placement = single_device_placement()
    data = load_training_data(config.data, config.validation)
    student = load_student(open_student(config.model), config.model, placement, seed=0)
    measure = functools.partial(_measure, record, config, data, setting)
    names = ("SmolLM2-135M",) if setting.toy else ("SmolLM2-135M", "Qwen3-0.6B body")
    for name in names:
        with record.case(f"stage-3 step, {name}"):
            measure(name, student if name == "SmolLM2-135M" else _enlarged(student, placement))


def _measure(
    record: Record,
    config: TrainConfig,
    data: TrainingData,
    setting: Setting,
    name: str,
    student: Student,
) -> None:
    """Some steps, the first of which compiles; medians of the others."""
    rows = RowMaker(student.tokeniser, student.preset, data.sets, config.data.lengths)
    stage = Stage("s3", config, student, data.sets, rows)
    reports = []
    with student.placement.entered():
        state = stage.start(jax.tree.map(jnp.copy, student.initial))
        for step in range(2 if setting.toy else 4):
            state, report = stage.step(state, step)
            reports.append(report)
    first, later = reports[0], reports[1:]
    seconds = {
        part: float(np.median([report.metrics.get(f"time/{part}", 0.0) for report in later]))
        for part in _PARTS
    }
    total = sum(seconds.values())
    for part, taken in seconds.items():
        compiled = first.metrics.get(f"time/{part}", 0.0)
        note = f"{100 * taken / max(total, 1e-9):.0f} % of the step; first {compiled:.1f} s"
        record.measure(f"stage 3, {name}: {part}", taken, "s", note=note)
    thoughts = config.stages["s3"].draws.batch_queries * config.stages["s3"].rollout.thoughts
    drawn = float(np.median([report.metrics["rollout/length"] + 1 for report in later]))
    record.measure(
        f"stage 3, {name}: thought tokens", thoughts * drawn / seconds["rollout"], "tokens/s"
    )
    record.measure(
        f"stage 3, {name}: tokens learnt from",
        float(np.median([report.tokens for report in later])) / max(seconds["update"], 1e-9),
        "tokens/s",
    )


def _enlarged(student: Student, placement: Placement) -> Student:
    """The student with random weights of Qwen3-0.6B's layers; tokens and prompts stay its own."""
    small = student.shape
    config = replace(
        shape("Qwen3-0.6B", toy=False),
        vocab_size=small.vocab_size,
        vocab_multiple=small.vocab_multiple,
        max_positions=small.max_positions,
    )
    platform = placement.mesh.devices.flat[0].platform
    options = ModelOptions.for_platform(platform, dtype="bfloat16")
    learning = replace(options, param_dtype="float32", remat="projections", unroll_decode=False)
    with placement.entered():
        decoder = random_decoder(config, learning, placement)
        plain = nnx.eval_shape(lambda: Decoder(config, options, placement, nnx.Rngs(0)))
        thinker, weights, _ = nnx.split(plain, nnx.Param, TokenMask)
        emb = student.tokeniser.emb_token_id
        decoder = add_lora(decoder, LoraConfig(), nnx.Rngs(0), emb_token_id=emb)
        graph, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
    return replace(
        student,
        learner=Learner(graph=graph, frozen=frozen, placement=placement),
        initial=trained,
        thinker=thinker,
        shape=config,
        lora=decoder.lora,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(weights)),
    )


if __name__ == "__main__":
    run_part(check)
