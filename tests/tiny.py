"""Random decoders whose weights NumPy draws: JAX would compile several programs for each shape."""

from collections.abc import Callable
from math import prod
from zlib import crc32

import jax
import numpy as np
from flax import nnx

from t1_jax.model import Decoder, DecoderConfig, LoraConfig, LoraParam, ModelOptions, add_lora
from t1_jax.parallel import MeshContext, on_mesh


def random_decoder(
    config: DecoderConfig, options: ModelOptions, mesh_context: MeshContext, *, seed: int = 0
) -> Decoder:
    """A decoder with weights of the usual sizes, which depend on path, shape and seed only."""

    def value(path: str, shape: tuple[int, ...]) -> np.ndarray:
        if path.endswith("scale"):
            return np.ones(shape)
        if path.endswith("bias"):
            return np.zeros(shape)
        if path == "embed/table":
            fan_in = config.embed_dim
        elif path == "head/kernel":
            fan_in = shape[0]
        else:
            fan_in = prod(shape[1:-1]) if path.endswith("o/kernel") else shape[1]
        drawn = np.random.default_rng([seed, crc32(path.encode())]).standard_normal(shape)
        return drawn * fan_in**-0.5

    return decoder_of(config, options, mesh_context, value)


def decoder_of(
    config: DecoderConfig,
    options: ModelOptions,
    mesh_context: MeshContext,
    value: Callable[[str, tuple[int, ...]], np.ndarray],
) -> Decoder:
    """A decoder whose weights are `value(path, shape)`."""
    with mesh_context.activate():
        # The abstract decoder costs nothing; compiling its random initial values would.
        decoder = nnx.eval_shape(lambda: Decoder(config, options, mesh_context, nnx.Rngs(0)))
        for path, variable in nnx.iter_graph(decoder):
            if isinstance(variable, nnx.Variable):
                name = "/".join(str(part) for part in path)
                abstract = variable.get_value()
                sharding = jax.NamedSharding(mesh_context.mesh, abstract.sharding.spec)
                if name == "token_mask":
                    array = np.arange(abstract.shape[0]) < config.vocab_size
                else:
                    array = value(name, abstract.shape).astype(abstract.dtype)
                variable.set_value(jax.device_put(array, sharding))
    return decoder


def adapted(
    decoder: Decoder,
    lora: LoraConfig,
    mesh_context: MeshContext,
    *,
    emb_token_id: int | None,
    scale: float,
    seed: int = 0,
) -> Decoder:
    """The decoder with an adapter, as if training had moved all of it."""
    with mesh_context.activate():
        abstract = nnx.eval_shape(
            lambda base: add_lora(base, lora, nnx.Rngs(0), emb_token_id=emb_token_id), decoder
        )
    graph, factors, _ = nnx.split(abstract, LoraParam, ...)
    generator = np.random.default_rng(seed)
    for _, leaf in nnx.to_flat_state(factors):
        placed = on_mesh(leaf.get_value(), mesh_context)
        moved = (scale * generator.standard_normal(placed.shape)).astype(np.float32)
        leaf.set_value(jax.device_put(moved, placed.sharding))
    return nnx.merge(graph, factors, nnx.state(decoder), copy=True)
