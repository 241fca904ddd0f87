"""The model in training: float32 weights, and a copy in the compute dtype that samples."""

import functools
import hashlib
from dataclasses import asdict, dataclass, replace
from shlex import quote
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from t1_jax.errors import ConfigError
from t1_jax.generate import BatchShapes
from t1_jax.hub import (
    is_adapter,
    locate_model,
    open_checkpoint,
    read_adapter,
    tokenizer_hash,
)
from t1_jax.interrupt import Interrupt
from t1_jax.model import (
    SPLASH_MULTIPLE,
    Decoder,
    DecoderConfig,
    LoraConfig,
    ModelOptions,
    VocabMask,
    add_lora,
    init_emb_row,
    merge_lora,
    trainable_filter,
)
from t1_jax.parallel import MeshContext
from t1_jax.retriever import (
    T1,
    Provenance,
    ResolvedModel,
    RetrieverOptions,
    load_decoder,
    open_base,
    resolve_model,
)
from t1_jax.seeds import key_data
from t1_jax.text import BucketConfig, PromptPreset, T1Tokenizer
from t1_jax.train.config import ModelConfig
from t1_jax.train.data import LengthConfig
from t1_jax.train.step import ModelParts


@dataclass(frozen=True, kw_only=True, eq=False)
class TrainableModel:
    """A model in training, with its tokenizer and prompts.

    Attributes:
        parts: the decoder as the training step takes it.
        initial: trainable weights as loaded; the first step consumes them.
        sampler_graph: graph of the decoder that samples, without adapters, in the compute dtype.
        sampler_mesh: mesh and rules of that decoder.
        dtype: compute dtype.
        attention: attention back end of both decoders.
        shape: config of the decoder.
        lora: adapters that are trained; None if all weights are.
        tokenizer: with `<emb_token>`.
        preset: prompts of queries and documents.
        provenance: where the weights came from.
        parameters: number of parameters of the decoder, without adapters.
    """

    parts: ModelParts
    initial: nnx.State
    sampler_graph: nnx.GraphDef[Decoder]
    sampler_mesh: MeshContext
    dtype: str
    attention: str
    shape: DecoderConfig
    lora: LoraConfig | None
    tokenizer: T1Tokenizer
    preset: PromptPreset
    provenance: Provenance
    parameters: int

    @property
    def mesh_context(self) -> MeshContext:
        """Mesh and rules of the decoder in training."""
        return self.parts.mesh_context

    def decoder(self, trained: nnx.State) -> Decoder:
        """The decoder in float32 with these weights; adapters stay separate."""
        with self.mesh_context.activate():
            return nnx.merge(self.parts.graphdef, trained, self.parts.frozen)

    def retriever(
        self,
        trained: nnx.State,
        options: RetrieverOptions,
        interrupt: Interrupt | None = None,
    ) -> T1:
        """A retriever with a copy of these weights, which are not consumed, in the compute dtype.

        `interrupt` ends thinking and encoding early.
        """
        gathered = set(self.mesh_context.rules.embed) - set(self.sampler_mesh.rules.embed)
        with self.mesh_context.activate():
            weights, masks = sampler_weights(
                self.parts.graphdef, trained, self.parts.frozen, self.dtype, tuple(gathered)
            )
            decoder = nnx.merge(self.sampler_graph, weights, masks)
        return T1(
            decoder,
            self.tokenizer,
            self.preset,
            self.sampler_mesh,
            options=options,
            provenance=self.provenance,
            interrupt=interrupt,
        )

    def retriever_options(
        self, lengths: LengthConfig, *, max_rows: int, max_thought_tokens: int
    ) -> RetrieverOptions:
        """Lengths and batch shapes of a retriever that is used during training."""
        return retriever_options(
            lengths, self.attention, max_rows=max_rows, max_thought_tokens=max_thought_tokens
        )


def retriever_options(
    lengths: LengthConfig, attention: str, *, max_rows: int, max_thought_tokens: int
) -> RetrieverOptions:
    """Lengths and batch shapes for an attention back end, see `TrainableModel`."""
    shapes, buckets = BatchShapes(max_rows=max_rows), BucketConfig()
    if attention == "splash":
        shapes = replace(shapes, prefix_sizes=_multiples(shapes.prefix_sizes))
        buckets = replace(buckets, lengths=_multiples(buckets.lengths))
    return RetrieverOptions(
        max_query_tokens=lengths.query,
        max_document_tokens=lengths.document,
        max_thought_tokens=max_thought_tokens,
        shapes=shapes,
        buckets=buckets,
    )


def _multiples(sizes: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(size for size in sizes if size % SPLASH_MULTIPLE == 0)


@functools.partial(jax.jit, static_argnames=("graph", "dtype", "gathered"))
def sampler_weights(
    graph: nnx.GraphDef[Decoder],
    trained: nnx.State,
    frozen: nnx.State,
    dtype: str,
    gathered: tuple[str, ...],
) -> tuple[nnx.State, nnx.State]:
    """The weights that sample, and the vocabulary mask.

    All weights are in the compute dtype, with adapters merged, replicated over `gathered` axes.
    """
    plain = merge_lora(nnx.merge(graph, trained, frozen))
    _, weights, masks = nnx.split(plain, nnx.Param, VocabMask)

    def replicated(leaf: jax.Array) -> jax.Array:
        cast = leaf.astype(jnp.dtype(dtype))
        if not gathered:
            return cast
        return jax.reshard(cast, _without(jax.typeof(cast).sharding.spec, gathered))

    return jax.tree.map(replicated, weights), masks


def _without(spec: jax.P, axes: tuple[str, ...]) -> jax.P:
    """The partition spec without these mesh axes."""
    remaining = []
    for entry in spec:
        names = (entry,) if isinstance(entry, str) else tuple(entry or ())
        remaining.append(tuple(name for name in names if name not in axes) or None)
    return jax.P(*remaining)


def open_trainable_model(config: ModelConfig) -> ResolvedModel:
    """Opens a checkpoint, or an adapter and the base model that it names; reads no weights.

    Raises:
        WeightsError: nothing usable is there, or an adapter of another base model.
        ConfigError: an adapter would be trained further with another rank or other targets, or new
            adapters would not store the row of a new `<emb_token>`.
    """
    path, adapter = locate_model(config.path), None
    if is_adapter(path):
        adapter = read_adapter(path)
        if config.lora not in (None, adapter.config):
            raise ConfigError(
                f"{path} is an adapter with {adapter.config}, and model.lora asks for "
                f"{config.lora}",
                hint="set model.lora=null to train the adapter further as it is, or merge it "
                f"first: t1 export {quote(str(path))} FOLDER",
            )
        name, checkpoint = adapter.metadata.base_model, open_base(adapter)
    else:
        name, checkpoint = config.path, open_checkpoint(path)
        is_new = checkpoint.tokenizer.emb_token_id is None
        if is_new and config.lora is not None and not config.lora.emb_row:
            raise ConfigError(
                f"{config.path} has no <emb_token> yet, and adapters with emb_row=false would not "
                "store its row",
                hint="set model.lora.emb_row=true, or add the token first: "
                f"t1 import {quote(str(config.path))} FOLDER",
            )
    return resolve_model(
        checkpoint, name=name, emb_token=config.emb_token, preset=config.preset, adapter=adapter
    )


def run_identity(resolved: ResolvedModel, lora: LoraConfig | None, seed: int) -> dict[str, Any]:
    """What all checkpoints of a run have in common, as JSON; needs no weights.

    `lora` are new adapters to train; an adapter that is trained further keeps its own.
    """
    fingerprint, adapter = resolved.provenance.fingerprint, resolved.adapter
    if adapter is not None:
        lora = adapter.config
        fingerprint = hashlib.sha256(f"{fingerprint} {adapter.fingerprint}".encode()).hexdigest()
    return {
        "model": fingerprint,
        "tokenizer": tokenizer_hash(resolved.provenance.tokenizer),
        "prompt": resolved.preset.hash,
        "emb_token": resolved.tokenizer.emb_token_id,
        "lora": None if lora is None else asdict(lora) | {"targets": list(lora.targets)},
        "seed": seed,
    }


def load_trainable_model(
    resolved: ResolvedModel, config: ModelConfig, mesh_context: MeshContext, *, seed: int
) -> TrainableModel:
    """Loads the weights to train, in float32; `seed` is that of new adapters.

    Raises:
        ConfigError: the mesh does not divide a weight.
        UnsupportedError: the attention back end does not support this model or platform.
    """
    platform = mesh_context.mesh.devices.flat[0].platform
    options = ModelOptions.for_platform(platform, dtype=config.dtype, attention=config.attention)
    sampler_mesh = mesh_context
    if config.replicate_for_sampling:
        sampler_mesh = replace(mesh_context, rules=replace(mesh_context.rules, embed=()))
    decoder = load_decoder(
        resolved,
        replace(options, param_dtype="float32", remat=config.remat, unroll_decode=False),
        mesh_context,
    )
    with mesh_context.activate():
        sampler = nnx.eval_shape(
            lambda: Decoder(decoder.config, options, sampler_mesh, nnx.Rngs(0))
        )
        sampler_graph, weights, _ = nnx.split(sampler, nnx.Param, VocabMask)
        if config.lora is not None and resolved.adapter is None:
            bits = jnp.asarray(key_data(seed, "lora"))
            decoder = add_lora(
                decoder,
                config.lora,
                nnx.Rngs(jax.random.wrap_key_data(bits, impl="threefry2x32")),
                emb_token_id=resolved.tokenizer.emb_token_id,
            )
        is_new = resolved.adapter is None and resolved.checkpoint.tokenizer.emb_token_id is None
        if is_new and config.emb_token_init == "end":
            init_emb_row(decoder, resolved.tokenizer.eos_ids, resolved.tokenizer.emb_token_id)
        graph, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
    return TrainableModel(
        parts=ModelParts(graphdef=graph, frozen=frozen, mesh_context=mesh_context),
        initial=trained,
        sampler_graph=sampler_graph,
        sampler_mesh=sampler_mesh,
        dtype=config.dtype,
        attention=config.attention,
        shape=decoder.config,
        lora=decoder.lora,
        tokenizer=resolved.tokenizer,
        preset=resolved.preset,
        provenance=resolved.provenance,
        parameters=sum(leaf.size for leaf in jax.tree.leaves(weights)),
    )
