"""The model that learns: float32 masters to train, and a copy in the compute dtype to think with."""

import functools
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
from flax import nnx

from t1_jax.generate import BatchShapes
from t1_jax.hub import locate_model, open_checkpoint
from t1_jax.model import (
    Decoder,
    DecoderConfig,
    ModelOptions,
    TokenMask,
    add_lora,
    merge_lora,
    trainable_filter,
)
from t1_jax.parallel import Placement
from t1_jax.retriever import T1, Origin, RetrieverOptions, load_parts
from t1_jax.text import BucketConfig, PromptPreset, T1Tokeniser
from t1_jax.train.config import LengthConfig, ModelConfig, RolloutConfig
from t1_jax.train.step import Learner


@dataclass(frozen=True, kw_only=True, eq=False)
class Student:
    """A model in training and all that belongs to it.

    Attributes:
        learner: the decoder as the training step takes it.
        initial: the weights that learn, as they were loaded.
        thinker: the graph of the decoder that thinks, without adapters, in the compute dtype.
        dtype: of that decoder.
        shape: of the decoder.
        tokeniser: with `<emb_token>`.
        preset: how queries and documents are put to the model.
        origin: where the weights came from.
        parameters: of the decoder, adapters not counted.
    """

    learner: Learner
    initial: nnx.State
    thinker: nnx.GraphDef[Decoder]
    dtype: str
    shape: DecoderConfig
    tokeniser: T1Tokeniser
    preset: PromptPreset
    origin: Origin
    parameters: int

    @property
    def placement(self) -> Placement:
        """Mesh and rules."""
        return self.learner.placement

    def merged(self, trained: nnx.State) -> Decoder:
        """A plain decoder in float32 with these weights, adapters merged: what is exported."""
        with self.placement.entered():
            return merge_lora(nnx.merge(self.learner.graph, trained, self.learner.frozen))

    def retriever(self, trained: nnx.State, options: RetrieverOptions) -> T1:
        """A retriever with a copy of these weights in the compute dtype."""
        with self.placement.entered():
            weights, masks = _thinking_weights(
                self.learner.graph, trained, self.learner.frozen, self.dtype
            )
            decoder = nnx.merge(self.thinker, weights, masks)
        return T1(
            decoder,
            self.tokeniser,
            self.preset,
            self.placement,
            options=options,
            origin=self.origin,
        )


@functools.partial(jax.jit, static_argnames=("graph", "dtype"))
def _thinking_weights(
    graph: nnx.GraphDef[Decoder], trained: nnx.State, frozen: nnx.State, dtype: str
) -> tuple[nnx.State, nnx.State]:
    """Adapters merged, and all weights in the dtype of the decoder that thinks."""
    plain = merge_lora(nnx.merge(graph, trained, frozen))
    _, weights, masks = nnx.split(plain, nnx.Param, TokenMask)
    return jax.tree.map(lambda leaf: leaf.astype(jnp.dtype(dtype)), weights), masks


def load_student(config: ModelConfig, placement: Placement, *, seed: int) -> Student:
    """Loads a checkpoint to train it.

    Raises:
        WeightsError: nothing usable is there.
        ConfigError: the mesh does not divide a weight.
        UnsupportedError: the attention back end cannot do this here.
    """
    platform = placement.mesh.devices.flat[0].platform
    thinking = ModelOptions.for_platform(platform, dtype=config.dtype, attention=config.attention)
    parts = load_parts(
        open_checkpoint(locate_model(config.path)),
        name=config.path,
        model_options=replace(
            thinking, param_dtype="float32", remat=config.remat, unroll_decode=False
        ),
        emb_token=config.emb_token,
        preset=config.preset,
        placement=placement,
    )
    decoder = parts.decoder
    with placement.entered():
        plain = nnx.eval_shape(
            lambda: Decoder(decoder.config, thinking, placement, nnx.Rngs(0))
        )
        thinker, _, _ = nnx.split(plain, nnx.Param, TokenMask)
        count = sum(leaf.size for leaf in jax.tree.leaves(nnx.state(decoder, nnx.Param)))
        if config.lora is not None:
            decoder = add_lora(
                decoder,
                config.lora,
                nnx.Rngs(seed),
                emb_token_id=parts.tokeniser.emb_token_id,
            )
        graph, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
    return Student(
        learner=Learner(graph=graph, frozen=frozen, placement=placement),
        initial=trained,
        thinker=thinker,
        dtype=config.dtype,
        shape=parts.decoder.config,
        tokeniser=parts.tokeniser,
        preset=parts.preset,
        origin=parts.origin,
        parameters=count,
    )


def thinking_options(
    lengths: LengthConfig, rollout: RolloutConfig, *, budget: int
) -> RetrieverOptions:
    """Lengths and batch shapes of a retriever that thinks during training."""
    return RetrieverOptions(
        max_query_tokens=lengths.query,
        max_document_tokens=lengths.document,
        budget=budget,
        shapes=BatchShapes(max_rows=rollout.max_rows),
        buckets=BucketConfig(),
    )
