"""Encoding: tokens/s and MFU of the forward pass to pooled vectors, as documents are encoded."""

import functools
from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.gpu.models import random_decoder, shape
from benchmarks.gpu.record import Record
from benchmarks.gpu.roofline import mfu, timed
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.model import Decoder, ModelOptions, pool_embeddings
from t1_jax.parallel import single_device_mesh_context

_CASES = (("Qwen3-0.6B", "cudnn"), ("Qwen3-4B", "cudnn"), ("Qwen3-0.6B", "xla"))
_TOKENS = 16_384
"""In a batch; the products of 8,192 rows and more fill a large card."""


@functools.partial(jax.jit, static_argnames=("graph",))
def _encode(graph: nnx.GraphDef[Decoder], weights: nnx.State, tokens: Any, at: Any) -> jax.Array:
    decoder = nnx.merge(graph, weights)
    return pool_embeddings(decoder, decoder(tokens), at)


def check(setting: Setting, record: Record) -> None:
    """Full rows of random tokens, so that no padding flatters or spoils the figure."""
    mesh_context = single_device_mesh_context()
    platform = mesh_context.mesh.devices.flat[0].platform
    for name, backend in _CASES:
        if backend == "cudnn" and platform != "gpu":
            if not setting.toy:
                record.skip(f"encode {name}, cudnn", "this is no GPU")
                continue
            backend = "xla"
        config = shape(name, toy=setting.toy)
        options = ModelOptions.for_platform(platform, dtype="bfloat16", attention=backend)
        with record.case(f"encode {name}, {backend}"), mesh_context.activate():
            graph, weights = nnx.split(random_decoder(config, options, mesh_context))
            for length in (512, 2048):
                _measure(
                    record, setting, name, backend, config, graph, weights, length, mesh_context
                )


def _measure(
    record: Record,
    setting: Setting,
    name: str,
    backend: str,
    config: Any,
    graph: Any,
    weights: Any,
    length: int,
    mesh_context: Any,
) -> None:
    shown, rows = length, _TOKENS // length
    if setting.toy:
        length, rows = length // 64, 2
    drawn = np.random.default_rng(0).integers(0, config.vocab_size, (rows, length), np.int32)
    tokens = jax.device_put(drawn, mesh_context.activation("bl"))
    at = jax.device_put(np.full(rows, length - 1, np.int32), mesh_context.activation("b"))
    first, seconds = timed(
        lambda: _encode(graph, weights, tokens, at), rounds=2 if setting.toy else 8
    )
    rate = rows * length / seconds
    record.measure(
        f"encode {name}, {shown:,} tokens, {backend}",
        rate,
        "tokens/s",
        share=mfu(config, rate, work="forward", context=length / 2),
        of="peak FLOP/s",
        note=f"{rows} rows; first call {first:.1f} s",
    )


if __name__ == "__main__":
    run_part(check)
