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
from t1_jax.interrupt import Interrupt
from t1_jax.model import (
    Decoder,
    LoraConfig,
    ModelOptions,
    VocabMask,
    add_lora,
    trainable_filter,
)
from t1_jax.parallel import MeshContext, single_device_mesh_context
from t1_jax.train import TrainConfig
from t1_jax.train.model import TrainableModel, load_trainable_model, open_trainable_model
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.sources import TrainingData, load_training_data
from t1_jax.train.stage import Stage
from t1_jax.train.step import ModelParts

_PARTS = ("rollout", "refresh", "reward", "data", "update")


def check(setting: Setting, record: Record) -> None:
    """The 135M model that ships, then the body of Qwen3-0.6B with its vocabulary."""
    config = experiment_config(
        setting, setting.work / "rollout", "stages.s3.rollout.prefetch=false"
    )
    mesh_context = single_device_mesh_context()
    data = load_training_data(config.data, config.validation)
    student = load_trainable_model(
        open_trainable_model(config.model), config.model, mesh_context, seed=0
    )
    measure = functools.partial(_measure, record, config, data, setting)
    names = ("SmolLM2-135M",) if setting.toy else ("SmolLM2-135M", "Qwen3-0.6B body")
    for name in names:
        with record.case(f"stage-3 step, {name}"):
            measure(name, student if name == "SmolLM2-135M" else _enlarged(student, mesh_context))


def _measure(
    record: Record,
    config: TrainConfig,
    data: TrainingData,
    setting: Setting,
    name: str,
    student: TrainableModel,
) -> None:
    """Some steps, the first of which compiles; medians of the others."""
    rows = RowBuilder(student.tokenizer, student.preset, data.sets, config.data.lengths)
    stage = Stage("s3", config, student, data.sets, rows, Interrupt())
    reports = []
    with student.mesh_context.activate():
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
    thoughts = config.stages["s3"].data.batch_size * config.stages["s3"].rollout.num_generations
    drawn = float(np.median([report.metrics["rollout/length"] + 1 for report in later]))
    record.measure(
        f"stage 3, {name}: thought tokens", thoughts * drawn / seconds["rollout"], "tokens/s"
    )
    record.measure(
        f"stage 3, {name}: tokens learned from",
        float(np.median([report.tokens for report in later])) / max(seconds["update"], 1e-9),
        "tokens/s",
    )


def _enlarged(student: TrainableModel, mesh_context: MeshContext) -> TrainableModel:
    """The student with random weights of Qwen3-0.6B's layers; tokens and prompts stay its own."""
    small = student.shape
    config = replace(
        shape("Qwen3-0.6B", toy=False),
        vocab_size=small.vocab_size,
        vocab_multiple=small.vocab_multiple,
        max_positions=small.max_positions,
    )
    platform = mesh_context.mesh.devices.flat[0].platform
    options = ModelOptions.for_platform(platform, dtype="bfloat16")
    learning = replace(options, param_dtype="float32", remat="projections", unroll_decode=False)
    with mesh_context.activate():
        decoder = random_decoder(config, learning, mesh_context)
        plain = nnx.eval_shape(lambda: Decoder(config, options, mesh_context, nnx.Rngs(0)))
        sampler_graph, weights, _ = nnx.split(plain, nnx.Param, VocabMask)
        emb = student.tokenizer.emb_token_id
        decoder = add_lora(decoder, LoraConfig(), nnx.Rngs(0), emb_token_id=emb)
        graphdef, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
    return replace(
        student,
        parts=ModelParts(graphdef=graphdef, frozen=frozen, mesh_context=mesh_context),
        initial=trained,
        sampler_graph=sampler_graph,
        shape=config,
        lora=decoder.lora,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(weights)),
    )


if __name__ == "__main__":
    run_part(check)
