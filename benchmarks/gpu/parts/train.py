"""The training step: tokens/s and MFU with adapters and with all weights learning."""

from dataclasses import dataclass, replace

import numpy as np
from flax import nnx

from benchmarks.gpu.models import random_decoder, shape
from benchmarks.gpu.record import Record
from benchmarks.gpu.roofline import mfu, timed
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.model import DecoderConfig, LoraConfig, ModelOptions, add_lora, trainable_filter
from t1_jax.parallel import MeshContext, single_device_mesh_context
from t1_jax.train.config import LossWeights
from t1_jax.train.layout import MicroBatchConfig, Row, RowTargets, micro_batches
from t1_jax.train.optimizer import Optimizer, OptimizerConfig
from t1_jax.train.step import ModelParts, Objective, StepBatch, train_step


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A model, what learns, and how it is computed."""

    model: str
    work: str
    attention: str
    remat: str
    rows: int
    length: int = 512

    @property
    def name(self) -> str:
        what = {"lora": "LoRA", "train": "all weights"}[self.work]
        return f"train {self.model}, {what}, {self.rows} x {self.length}, remat {self.remat}"


_CASES = (
    _Case(model="Qwen3-0.6B", work="train", attention="cudnn", remat="none", rows=32),
    _Case(model="Qwen3-0.6B", work="lora", attention="cudnn", remat="none", rows=32),
    _Case(model="Qwen3-4B", work="lora", attention="cudnn", remat="full", rows=32),
    _Case(model="Qwen3-0.6B", work="lora", attention="cudnn", remat="projections", rows=32),
)
_READ = 0.5
"""Share of a row's tokens that are imitated: a thought after a prompt of the same length."""


def check(setting: Setting, record: Record) -> None:
    """Supervised rows, two micro-batches a step, as stage 1 trains."""
    mesh_context = single_device_mesh_context()
    platform = mesh_context.mesh.devices.flat[0].platform
    cases = _CASES
    if setting.toy:
        cases = tuple(
            _Case(model="Qwen3-0.6B", work=w, attention="xla", remat="none", rows=2, length=16)
            for w in ("lora",)
        )
    for case in cases:
        with record.case(case.name), mesh_context.activate():
            _measure(record, case, mesh_context, platform, setting)


def _measure(
    record: Record, case: _Case, mesh_context: MeshContext, platform: str, setting: Setting
) -> None:
    config = shape(case.model, toy=setting.toy)
    parts, trained = _parts(config, case, mesh_context, platform)
    optimizer = Optimizer(OptimizerConfig(), steps=100)
    batch = _batch(config, case, mesh_context)
    objective = Objective(weights=LossWeights(sft=1.0))
    state = optimizer.start(trained)

    def step() -> object:
        nonlocal state
        state, _, logps = train_step(parts, optimizer, objective, state, batch)
        return state.trained, logps

    first, seconds = timed(step, rounds=2 if setting.toy else 4)
    rate = batch.num_tokens / seconds
    record.measure(
        case.name,
        rate,
        "tokens/s",
        share=mfu(
            config,
            rate,
            work="lora" if case.work == "lora" else "train",
            context=case.length / 2,
            read=_READ,
        ),
        of="peak FLOP/s",
        note=f"{1e3 * seconds:.0f} ms a step; first step {first:.1f} s",
    )


def _parts(
    config: DecoderConfig, case: _Case, mesh_context: MeshContext, platform: str
) -> tuple[ModelParts, nnx.State]:
    """Float32 masters and products in bf16, as in `load_trainable_model`."""
    options = replace(
        ModelOptions.for_platform(platform, dtype="bfloat16", attention=case.attention),
        param_dtype="float32",
        remat=case.remat,
        unroll_decode=False,
    )
    decoder = random_decoder(config, options, mesh_context)
    if case.work == "lora":
        decoder = add_lora(decoder, LoraConfig(), nnx.Rngs(0), emb_token_id=1)
    graphdef, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
    return ModelParts(graphdef=graphdef, frozen=frozen, mesh_context=mesh_context), trained


def _batch(config: DecoderConfig, case: _Case, mesh_context: MeshContext) -> StepBatch:
    random = np.random.default_rng(0)
    learned = int(case.length * _READ)
    count = 2 * case.rows
    rows = []
    for _ in range(count):
        tokens = random.integers(2, config.vocab_size, case.length, np.int32)
        rows.append(
            Row(
                tokens=tokens,
                logit_positions=np.arange(
                    case.length - learned - 1, case.length - 1, dtype=np.int32
                ),
                targets=RowTargets(
                    token_ids=tokens[case.length - learned :],
                    continuation=np.zeros(learned, np.int32),
                    sft_weights=np.full(learned, 1 / (learned * count), np.float32),
                ),
            )
        )
    micro = MicroBatchConfig(
        rows=case.rows, tokens=case.rows * case.length, length_step=case.length
    )
    return StepBatch(
        micro_batches=micro_batches(rows, micro, mesh_context, pad_id=0),
        num_targets=learned * count,
    )


if __name__ == "__main__":
    run_part(check)
