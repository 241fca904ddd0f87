"""Decoders small enough for a test, with every weight set to something that matters."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import jax
import numpy as np
from flax import nnx

from t1_jax.model import AttentionMask, Decoder, DecoderConfig, ModelOptions, RopeConfig
from t1_jax.parallel import MeshContext, single_device_mesh_context
from tests.tiny import decoder_of

TINY = DecoderConfig(
    family="llama",
    vocab_size=50,
    vocab_multiple=8,
    embed_dim=16,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=6,
    mlp_dim=24,
    norm_eps=1e-5,
    rope=RopeConfig(theta=1000.0),
    max_positions=64,
)

COMPILE_FAST = {"xla_backend_optimization_level": 0}
"""Tiny models run in no time; what a test waits for is the compiler."""


def tiny(**changes: Any) -> DecoderConfig:
    """`TINY` with some fields changed."""
    return replace(TINY, **{"windows": (), **changes})


def tokens(*shape: int, seed: int = 0) -> np.ndarray:
    """Token ids of `TINY`'s vocabulary."""
    return np.random.default_rng(seed).integers(0, TINY.vocab_size, shape, dtype=np.int32)


@dataclass(frozen=True)
class Model:
    """A decoder and where it stands."""

    decoder: Decoder
    mesh_context: MeshContext

    def place(self, array: Any, letters: str = "bl") -> jax.Array:
        """The array, laid out as an activation of these letters."""
        return jax.device_put(array, self.mesh_context.activation(letters))

    def run(self, call: Callable[..., Any], *arrays: Any) -> Any:
        """`call(decoder, *arrays)`, compiled, on the decoder's mesh."""
        graph, state = nnx.split(self.decoder)
        with self.mesh_context.activate():
            compiled = jax.jit(
                lambda state, *a: call(nnx.merge(graph, state), *a), compiler_options=COMPILE_FAST
            )
            return compiled(state, *arrays)

    def logits(self, ids: np.ndarray, **kwargs: np.ndarray) -> np.ndarray:
        """Logits of whole rows."""
        names = list(kwargs)

        def call(decoder: Decoder, ids: jax.Array, *rest: jax.Array) -> jax.Array:
            return decoder.logits(forward(decoder, ids, **dict(zip(names, rest, strict=True))))

        placed = [self.place(array) for array in (ids, *kwargs.values())]
        return np.asarray(self.run(call, *placed))

    def hidden(self, ids: np.ndarray, **kwargs: np.ndarray) -> np.ndarray:
        """Final-layer hidden states of whole rows, in float32."""
        names = list(kwargs)

        def call(decoder: Decoder, ids: jax.Array, *rest: jax.Array) -> jax.Array:
            return forward(decoder, ids, **dict(zip(names, rest, strict=True)))

        placed = [self.place(array) for array in (ids, *kwargs.values())]
        return np.asarray(self.run(call, *placed), np.float32)


def forward(decoder: Decoder, ids: jax.Array, positions: Any = None, **mask: Any) -> jax.Array:
    """The forward pass, with the fields of its mask by name."""
    return decoder(ids, positions=positions, mask=AttentionMask(**mask))


def build(
    config: DecoderConfig = TINY, mesh_context: MeshContext | None = None, **options: Any
) -> Model:
    """A decoder whose weights depend on their path and shape only, biases and scales included."""
    mesh_context = mesh_context or single_device_mesh_context()
    return Model(decoder_of(config, ModelOptions(**options), mesh_context, _value), mesh_context)


def _value(name: str, shape: tuple[int, ...]) -> np.ndarray:
    drawn = np.random.default_rng(crc32(name.encode())).standard_normal(shape)
    return 1 + 0.3 * drawn if name.endswith("scale") else 0.3 * drawn
