"""Decoding: tokens/s and the share of the memory bandwidth, with the sampler's own programs."""

from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.gpu.models import random_decoder, shape
from benchmarks.gpu.record import Record
from benchmarks.gpu.roofline import bandwidth, decode_bytes, share, timed
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.generate import SamplingParams, StopTokens
from t1_jax.generate.loop import decode_chunk
from t1_jax.generate.state import DecodeState, PromptBatch, start_batch
from t1_jax.model import DecoderConfig, ModelOptions
from t1_jax.parallel import MeshContext, single_device_mesh_context

_BLOCK = 64
_BLOCKS, _TIMED = 4, 2
"""Blocks of 64 steps that fit the suffix caches, and how many of them, the last, are timed."""
_STOP = StopTokens(emb=1, eos=(2,))
_OPTIONS = SamplingParams(min_length=1_000_000)  # no thought ends while it is timed


@dataclass(frozen=True, kw_only=True)
class _Case:
    """A batch of P prompts of S tokens with G thoughts each."""

    model: str
    prompts: int
    samples: int
    prefix: int

    @property
    def name(self) -> str:
        what = f"shared prefix of {self.prefix:,}" if self.samples > 1 else f"prompts {self.prefix}"
        return f"decode {self.model}, batch {self.prompts * self.samples}, {what}"


_CASES = tuple(
    _Case(model=f"Qwen3-{size}", prompts=prompts, samples=samples, prefix=prefix)
    for size, prompts, samples, prefix in (
        ("0.6B", 32, 1, 64),
        ("0.6B", 256, 1, 64),
        ("4B", 32, 1, 64),
        ("4B", 256, 1, 64),
        ("0.6B", 1, 1, 64),
        ("0.6B", 1, 256, 1024),
        ("4B", 1, 256, 1024),
        ("4B", 1, 1, 64),
        ("0.6B", 1, 32, 1024),
        ("4B", 1, 32, 1024),
        ("0.6B", 32, 8, 1024),
    )
)
"""Most valuable first: compiling takes 15 s for each."""


def check(setting: Setting, record: Record) -> None:
    """Blocks of 64 steps on a batch whose suffix cache holds them all."""
    mesh_context = single_device_mesh_context()
    platform = mesh_context.mesh.devices.flat[0].platform
    options = ModelOptions.for_platform(platform, dtype="bfloat16")
    cases = _CASES
    if setting.toy:
        cases = (
            _Case(model="Qwen3-0.6B", prompts=2, samples=1, prefix=64),
            _Case(model="Qwen3-0.6B", prompts=1, samples=4, prefix=64),
        )
    made: dict[str, Any] = {}
    for case in cases:
        config = shape(case.model, toy=setting.toy)
        with record.case(case.name), mesh_context.activate():
            if case.model not in made:
                decoder = random_decoder(config, options, mesh_context)
                prefill = nnx.split(decoder)
                step = nnx.split(decoder.unstack_layers()) if options.unroll_decode else prefill
                made[case.model] = (prefill, step)
            _measure(record, case, config, made[case.model], options, mesh_context, setting)


def _measure(
    record: Record,
    case: _Case,
    config: DecoderConfig,
    programs: Any,
    options: ModelOptions,
    mesh_context: MeshContext,
    setting: Setting,
) -> None:
    block = 4 if setting.toy else _BLOCK
    prefill, step = programs
    prompts = _prompts(case, config, mesh_context)
    slots = block * _BLOCKS
    limits = np.full((case.prompts, case.samples), 1_000_000, np.int32)

    def start() -> DecodeState:
        return start_batch(
            *prefill,
            prompts,
            mesh_context=mesh_context,
            unstacked=options.unroll_decode,
            slots=slots,
        )

    first, prefill_seconds = timed(start, rounds=2)
    state = start()

    def decode() -> Any:
        nonlocal state
        state, output = decode_chunk(
            *step, state, limits, sampling=_OPTIONS, stop=_STOP, max_steps=block
        )
        return output

    compiled, seconds = timed(decode, rounds=_TIMED)
    batch = case.prompts * case.samples
    moved = decode_bytes(
        config,
        prompts=case.prompts,
        samples=case.samples,
        prefix=case.prefix,
        suffix=block * (_BLOCKS - _TIMED / 2),
    )
    rate = batch * block / seconds
    record.measure(
        case.name,
        rate,
        "tokens/s",
        share=share(moved * block / seconds, bandwidth(jax.devices()[0].device_kind)),
        of="memory bandwidth",
        note=f"{1e3 * seconds / block:.2f} ms a step; first call {compiled:.1f} s; prefill "
        f"{1e3 * prefill_seconds:.1f} ms, first {first:.1f} s",
    )


def _prompts(case: _Case, config: DecoderConfig, mesh_context: MeshContext) -> PromptBatch:
    random = np.random.default_rng(0)
    tokens = random.integers(3, config.vocab_size, (case.prompts, case.prefix), np.int32)
    keys = random.integers(0, 1 << 32, (case.prompts, case.samples, 2), np.uint32)

    def put(array: np.ndarray, letters: str) -> jax.Array:
        return jax.device_put(array, mesh_context.activation(letters))

    return PromptBatch(
        tokens=put(tokens, "ps"),
        lengths=put(np.full(case.prompts, case.prefix, np.int32), "p"),
        last_token=put(tokens[:, -1], "p"),
        keys=put(keys, "pg"),
        done=put(np.zeros((case.prompts, case.samples), bool), "pg"),
        token_seen_mask=None,
    )


if __name__ == "__main__":
    run_part(check)
