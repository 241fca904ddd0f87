"""The arrays of a run as shapes with shardings: weights, state, micro-batches, prompts."""

import copy
import functools
import math
from dataclasses import dataclass, fields, replace
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t1_jax.generate import PromptBatch
from t1_jax.model import (
    Decoder,
    DecoderConfig,
    ModelOptions,
    VocabMask,
    add_lora,
    trainable_filter,
)
from t1_jax.parallel import MeshContext, on_mesh, single_device_mesh_context
from t1_jax.train.config import ModelConfig, StageConfig
from t1_jax.train.data import LengthConfig
from t1_jax.train.layout import (
    Continuation,
    MicroBatch,
    Row,
    micro_batches,
    pack_rows,
    separate_rows,
    shared_prefix_row,
)
from t1_jax.train.model import sampler_weights
from t1_jax.train.step import ModelParts

Tree = TypeVar("Tree")

_EMB_TOKEN = 0
"""Row of `<emb_token>` under adapters: any, since only shapes matter."""


@dataclass(frozen=True, kw_only=True, eq=False)
class AbstractModel:
    """A model in training without its weights; see `t1_jax.train.model.TrainableModel`.

    Attributes:
        parts: the decoder as the training step takes it.
        trained: trainable weights.
        sampler_graph: graph of the decoder that samples.
        sampler_state: its weights and vocabulary mask.
        sampler_mesh: mesh and rules of that decoder.
        gathered: mesh axes over which sampling replicates the weights.
    """

    parts: ModelParts
    trained: nnx.State
    sampler_graph: nnx.GraphDef[Decoder]
    sampler_state: tuple[nnx.State, nnx.State]
    sampler_mesh: MeshContext
    gathered: tuple[str, ...]

    @property
    def sampler(self) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
        """Graph and state of the decoder that samples, as its programs take them."""
        graph, state = nnx.split(nnx.merge(self.sampler_graph, *self.sampler_state))
        return graph, on_mesh(state, self.sampler_mesh)


def abstract_model(
    config: ModelConfig, shape: DecoderConfig, mesh_context: MeshContext, platform: str
) -> AbstractModel:
    """The model of a config; `platform` is that of the chips that will run it.

    Raises:
        ConfigError: the mesh does not divide a weight.
        UnsupportedError: the attention back end does not support this model or platform.
    """
    options = ModelOptions.for_platform(platform, dtype=config.dtype, attention=config.attention)
    in_training = replace(options, param_dtype="float32", remat=config.remat, unroll_decode=False)
    sampler_mesh = mesh_context
    if config.replicate_for_sampling:
        sampler_mesh = replace(mesh_context, rules=replace(mesh_context.rules, embed=()))

    def build() -> Decoder:
        decoder = Decoder(shape, in_training, mesh_context, nnx.Rngs(0))
        if config.lora is None:
            return decoder
        return add_lora(decoder, config.lora, nnx.Rngs(0), emb_token_id=_EMB_TOKEN)

    with mesh_context.activate():
        decoder = nnx.eval_shape(build)
        graph, trained, frozen = nnx.split(decoder, trainable_filter(decoder), ...)
        trained, frozen = on_mesh(trained, mesh_context), on_mesh(frozen, mesh_context)
        sampler = nnx.eval_shape(lambda: Decoder(shape, options, sampler_mesh, nnx.Rngs(0)))
        sampler_graph, _, _ = nnx.split(sampler, nnx.Param, VocabMask)
        gathered = tuple(set(mesh_context.rules.embed) - set(sampler_mesh.rules.embed))
        weights, masks = jax.eval_shape(
            functools.partial(sampler_weights, graph, dtype=config.dtype, gathered=gathered),
            trained,
            frozen,
        )
    return AbstractModel(
        parts=ModelParts(graphdef=graph, frozen=frozen, mesh_context=mesh_context),
        trained=trained,
        sampler_graph=sampler_graph,
        sampler_state=(on_mesh(weights, mesh_context), on_mesh(masks, mesh_context)),
        sampler_mesh=sampler_mesh,
        gathered=gathered,
    )


def residuals(vjp: Tree, mesh_context: MeshContext) -> Tree:
    """The residuals of a backward pass; the compiler places those without a stated sharding."""
    mesh = mesh_context.mesh
    auto = jax.sharding.Mesh(mesh.devices, mesh.axis_names)

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = jax.NamedSharding(auto, jax.P())
        if isinstance(leaf.sharding, jax.NamedSharding):
            sharding = jax.NamedSharding(mesh, leaf.sharding.spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, vjp)


def bytes_per_device(tree: Any) -> int:
    """Bytes that one device holds of arrays with shardings."""
    return sum(
        math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize
        for leaf in jax.tree.leaves(tree)
    )


def array(
    shape: tuple[int, ...], dtype: Any, letters: str, mesh_context: MeshContext
) -> jax.ShapeDtypeStruct:
    """An array sharded by its letters."""
    return jax.ShapeDtypeStruct(shape, dtype, sharding=mesh_context.activation(letters))


@dataclass(frozen=True, kw_only=True, eq=False)
class RowGroup:
    """Rows of one kind in a step, all as long as the config allows.

    Attributes:
        name: "queries", "thoughts" or "documents".
        batch: the arrays of a full micro-batch of them.
        count: micro-batches of a step.
        tokens: tokens of a row.
        targets: targets of a row.
    """

    name: str
    batch: MicroBatch
    count: int
    tokens: int
    targets: int


def row_groups(
    stage: StageConfig, lengths: LengthConfig, mesh_context: MeshContext
) -> list[RowGroup]:
    """The rows of a step, at the largest lengths that the config allows."""
    queries = stage.data.batch_size
    contrastive = bool(stage.losses.infonce or stage.losses.triplet)
    kinds: list[tuple[str, Row, int]] = []
    if stage.draws_thoughts:
        rows = _rollout_rows(stage, lengths)
        kinds.append(("thoughts", rows[0], queries * len(rows)))
    else:
        row = _query_row(stage, lengths, contrastive)
        if stage.pack:
            length = stage.micro_batch.packed_length(len(row.tokens), mesh_context.batch_divisor)
            texts = max(length // len(row.tokens), 1)
            row, queries = pack_rows([row] * texts, length)[0], -(-queries // texts)
        kinds.append(("queries", row, queries))
    if contrastive:
        document = Row(tokens=_tokens(lengths.document), emb_positions=[0], embedding_ids=[0])
        kinds.append(("documents", document, queries * (1 + stage.data.hard_negatives)))
    groups = []
    for name, row, count in kinds:
        length = stage.micro_batch.padded_length(len(row.tokens))
        rows_of = stage.micro_batch.rows_of(length, mesh_context.batch_divisor)
        whole = replace(stage.micro_batch, rows=rows_of, tokens=rows_of * length)
        (placed,) = micro_batches([row] * rows_of, whole, single_device_mesh_context(), pad_id=0)
        if stage.losses.policy and stage.policy.resolved().beta > 0:
            # Any array of that shape: none can be made where the mesh has no real devices.
            placed = placed.with_logps(reference=placed.arrays.targets.sampler_logps)
        groups.append(
            RowGroup(
                name=name,
                batch=_described(placed.arrays, mesh_context),
                count=-(-count // rows_of),
                tokens=len(row.tokens),
                targets=len(row.targets),
            )
        )
    return groups


def _described(batch: MicroBatch, mesh_context: MeshContext) -> MicroBatch:
    """The micro-batch with the shapes of its arrays, sharded by rows over another mesh.

    Built by copying: fields of the class are arrays, and only programs that are traced see shapes.
    """

    def described(value: Any) -> Any:
        if isinstance(value, jax.Array):
            return array(value.shape, value.dtype, "bl", mesh_context)
        if value is None:
            return None
        shapes = copy.copy(value)
        for each in fields(value):
            object.__setattr__(shapes, each.name, described(getattr(value, each.name)))
        return shapes

    return described(batch)


def _query_row(stage: StageConfig, lengths: LengthConfig, contrastive: bool) -> Row:
    thought = lengths.thought if stage.think and stage.uses_reference_thoughts else 0
    continuation = Continuation(
        tokens=_tokens(thought + 1),
        num_targets=thought + 1 if stage.losses.sft and thought else 0,
        embedding_id=0 if contrastive else None,
        sft_weights=1.0 if stage.losses.sft and thought else None,
    )
    (row,) = separate_rows(_tokens(stage.prompt_tokens(lengths)), [continuation])
    return row


def _rollout_rows(stage: StageConfig, lengths: LengthConfig) -> list[Row]:
    """The rows of one query: its sampled thoughts, and its reference thought if that is learned."""
    size = stage.rollout.max_thought_tokens + 1
    is_target = bool(stage.losses.policy)
    sampled = Continuation(
        tokens=_tokens(size),
        num_targets=size if is_target else 0,
        embedding_id=0,
        policy_weights=1.0 if is_target else None,
        advantages=1.0 if is_target else None,
        sampler_logps=np.zeros(size, np.float32) if is_target else None,
    )
    continuations = [sampled] * stage.rollout.num_generations
    if stage.losses.sft or stage.contrast_reference_thoughts:
        continuations.append(
            Continuation(
                tokens=_tokens(lengths.thought + 1),
                num_targets=lengths.thought + 1 if stage.losses.sft else 0,
                embedding_id=0,
                sft_weights=1.0 if stage.losses.sft else None,
            )
        )
    prompt = _tokens(stage.prompt_tokens(lengths))
    if stage.rollout.shared_prefix:
        return [shared_prefix_row(prompt, continuations)]
    return separate_rows(prompt, continuations)


def _tokens(count: int) -> np.ndarray:
    return np.zeros(count, np.int32)


def prompt_batch(prompts: int, n: int, length: int, mesh_context: MeshContext) -> PromptBatch:
    """Prompts that enter a decoding batch together."""
    # Fields of the batch are arrays; programs that are traced take their shapes.
    put: Any = functools.partial(array, mesh_context=mesh_context)
    return PromptBatch(
        tokens=put((prompts, length), jnp.int32, "ps"),
        lengths=put((prompts,), jnp.int32, "p"),
        last_token=put((prompts,), jnp.int32, "p"),
        keys=put((prompts, n, 2), jnp.uint32, "pg"),
        done=put((prompts, n), jnp.bool_, "pg"),
        token_seen_mask=None,
    )
