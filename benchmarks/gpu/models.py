"""Decoders of known shapes with random weights, made on the device."""

import functools
import zlib
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t1_jax.model import Decoder, DecoderConfig, ModelOptions, RopeConfig, VocabMask
from t1_jax.parallel import MeshContext

QWEN3_06B = DecoderConfig(
    family="qwen3",
    vocab_size=151_936,
    embed_dim=1024,
    num_layers=28,
    num_heads=16,
    num_kv_heads=8,
    head_dim=128,
    mlp_dim=3072,
    norm_eps=1e-6,
    rope=RopeConfig(theta=1e6),
    max_positions=32_768,
    qk_norm=True,
)
QWEN3_4B = replace(QWEN3_06B, embed_dim=2560, num_layers=36, num_heads=32, mlp_dim=9728, windows=())
TOY = replace(
    QWEN3_06B,
    vocab_size=512,
    embed_dim=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=8,
    mlp_dim=64,
    windows=(),
)


def shape(name: str, *, toy: bool) -> DecoderConfig:
    """The decoder config of `Qwen3-0.6B` or `Qwen3-4B`; a tiny one of the same form for `toy`."""
    return TOY if toy else {"Qwen3-0.6B": QWEN3_06B, "Qwen3-4B": QWEN3_4B}[name]


def random_decoder(
    config: DecoderConfig, options: ModelOptions, mesh_context: MeshContext
) -> Decoder:
    """A decoder with normal weights of deviation 0.02, norms at 1; the same for equal shapes."""
    with mesh_context.activate():
        decoder = nnx.eval_shape(lambda: Decoder(config, options, mesh_context, nnx.Rngs(0)))
        graph, parameters, masks = nnx.split(decoder, nnx.Param, VocabMask)
        flat = [
            (path, leaf.replace(_values(path, leaf.get_value(), mesh_context)))
            for path, leaf in nnx.to_flat_state(parameters)
        ]
        rows = jnp.arange(config.padded_vocab_size) < config.vocab_size
        mask = jax.device_put(rows, mesh_context.activation("v"))
        masks = jax.tree.map(lambda _: mask, masks)
        return nnx.merge(graph, nnx.from_flat_state(flat), masks)


def _values(path: tuple[Any, ...], leaf: Any, mesh_context: MeshContext) -> jax.Array:
    name = "/".join(map(str, path))
    sharding = jax.NamedSharding(mesh_context.mesh, leaf.sharding.spec)
    if name.endswith("scale"):
        return jnp.ones(leaf.shape, leaf.dtype, device=sharding)
    return _normal(zlib.crc32(name.encode()) >> 1, leaf.shape, leaf.dtype, sharding)


@functools.partial(jax.jit, static_argnames=("shape", "dtype", "sharding"))
def _normal(seed: Any, shape: tuple[int, ...], dtype: Any, sharding: Any) -> jax.Array:
    drawn = jax.random.normal(jax.random.key(seed), shape, dtype, out_sharding=sharding.spec)
    return drawn * jnp.asarray(0.02, dtype)
