"""The programs of a stage, as the training loop calls them, with shapes instead of arrays."""

import functools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from t1_jax.generate import (
    SamplingParams,
    StopTokens,
    decode_chunk,
    start_batch,
)
from t1_jax.model import Decoder
from t1_jax.parallel import MeshContext, on_mesh
from t1_jax.retriever import RetrieverOptions, encode_rows
from t1_jax.text import PromptTokens, token_batches
from t1_jax.train.ahead.abstract import (
    AbstractModel,
    RowGroup,
    array,
    bytes_per_device,
    prompt_batch,
    residuals,
    row_groups,
)
from t1_jax.train.ahead.ideal import WeightPasses
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.model import retriever_options, sampler_weights
from t1_jax.train.objective import (
    accumulate_gradients,
    apply_vector_grads,
    embed,
    forward_with_vjp,
    target_logps,
)
from t1_jax.train.optimizer import Optimizer, TrainState
from t1_jax.train.stage import stage_objective

_STOP = StopTokens(emb=0, eos=(1,))
_PAD = 2

ROLLOUT = ("copy", "prefill", "decode", "encode")
"""How the names of programs begin that sample or encode; all others are part of an update."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Program:
    """A compiled program of a stage.

    Attributes:
        name: what it does, and on which rows.
        trace: traces it.
        runs: executions in a step.
        resident: names of `StagePrograms.state` that are in memory beside its arguments.
        beside: further bytes on each device while it runs, such as residuals that are kept.
        loop_trips: trips of its `while` loop.
        weight_passes: how often it must gather the sharded weights, and whether it has gradients to
            add up.
    """

    name: str
    trace: Callable[[], jax.stages.Traced]
    runs: int
    resident: tuple[str, ...]
    beside: int = 0
    loop_trips: int = 1
    weight_passes: WeightPasses = WeightPasses()


@dataclass(frozen=True, kw_only=True, eq=False)
class StagePrograms:
    """What a stage keeps in memory and what it runs.

    Attributes:
        state: name -> bytes on each device: "weights" (trained, float32), "frozen", "optimizer",
            "gradients", "reference", "sampler" (the copy that samples and encodes), "caches", and
            "prefetch" (the weights that sample the next rollout during an update).
        programs: its large programs. The contrastive loss, a matrix of the embeddings of a step, is
            left out.
        groups: its rows.
    """

    state: dict[str, int]
    programs: Sequence[Program]
    groups: Sequence[RowGroup]


def stage_programs(config: TrainConfig, name: str, model: AbstractModel) -> StagePrograms:
    """The programs of a stage; call it, and trace them, inside `mesh_context.activate()`.

    Raises:
        ConfigError: a row does not fit into a micro-batch.
    """
    stage, mesh_context = config.stages[name], model.parts.mesh_context
    groups = row_groups(stage, config.data.lengths, mesh_context)
    optimizer = Optimizer(stage.optimizer, steps=1000)
    state = _train_state(optimizer, stage, model)
    sizes = {
        "weights": bytes_per_device(model.trained),
        "frozen": bytes_per_device(model.parts.frozen),
        "optimizer": bytes_per_device((state.optimizer, state.average)),
        "gradients": bytes_per_device(model.trained),
    }
    if stage.losses.policy and stage.policy.resolved().beta > 0:
        sizes["reference"] = sizes["weights"]
    programs = _update_programs(stage, model, groups, optimizer, state)
    if stage.draws_thoughts or stage.candidates.k:
        sizes["sampler"] = bytes_per_device(model.sampler_state)
        programs.append(_sampler_program(config, model))
    if stage.draws_thoughts:
        more, sizes["caches"] = _rollout_programs(config, stage, model)
        programs += more
        if stage.rollout.prefetch:
            sizes["prefetch"] = sizes["weights"]
            programs = [_beside_a_rollout(program) for program in programs]
    programs += _encode_programs(config, stage, model)
    return StagePrograms(state=sizes, programs=programs, groups=groups)


def _train_state(optimizer: Optimizer, stage: StageConfig, model: AbstractModel) -> TrainState:
    mesh_context = model.parts.mesh_context
    moments = jax.eval_shape(optimizer.rule.init, model.trained)
    return TrainState(
        trained=model.trained,
        optimizer=on_mesh(moments, mesh_context),
        average=None if stage.optimizer.ema is None else model.trained,
        step=array((), jnp.int32, "", mesh_context),
    )


def _update_programs(
    stage: StageConfig,
    model: AbstractModel,
    groups: Sequence[RowGroup],
    optimizer: Optimizer,
    state: TrainState,
) -> list[Program]:
    parts, trained, objective = model.parts, model.trained, stage_objective(stage)
    embed_dim = nnx.merge(parts.graphdef, trained, parts.frozen).config.embed_dim
    contrastive = bool(stage.losses.infonce or stage.losses.triplet)
    programs: list[Program] = []
    kept = 0  # residuals of all micro-batches; each program has those of one of them as its own
    for group in groups:
        arrays = group.batch
        shape = f"{arrays.tokens.shape[0]} x {arrays.tokens.shape[1]}"
        vector_grads = None
        if contrastive and arrays.emb_positions.shape[1]:
            vectors = (*arrays.emb_positions.shape, embed_dim)
            vector_grads = array(vectors, jnp.float32, "bld", parts.mesh_context)
        inputs = (parts.graphdef, trained, parts.frozen)

        def program(
            name: str, function: Any, *arguments: Any, shape: str = shape, **more: Any
        ) -> Program:
            return Program(
                name=f"{name} ({shape})",
                trace=functools.partial(function.trace, *arguments),
                resident=("optimizer", "reference", *more.pop("resident", ())),
                **more,
            )

        if stage.losses.policy and stage.policy.resolved().beta > 0 and group.targets:
            programs.append(
                program(
                    f"reference, {group.name}", target_logps, *inputs, arrays,
                    stage.rollout.temperature, runs=group.count,
                    weight_passes=WeightPasses(gathers=1),
                )
            )  # fmt: skip
        if contrastive and stage.micro_batch.keep_residuals:
            forward = jax.eval_shape(
                functools.partial(forward_with_vjp, parts.graphdef, objective=objective.tokens),
                trained,
                parts.frozen,
                arrays,
            )
            vjp = residuals(forward.vjp, parts.mesh_context)
            own = bytes_per_device(vjp)
            kept += group.count * own
            programs += [
                program(
                    f"forward, {group.name}", forward_with_vjp, *inputs, arrays, objective.tokens,
                    runs=group.count, beside=-own, weight_passes=WeightPasses(gathers=1),
                ),
                program(
                    f"backward, {group.name}", apply_vector_grads, trained, vjp, vector_grads,
                    runs=group.count, beside=-own, resident=("weights", "frozen"),
                    weight_passes=WeightPasses(gathers=1, gradients=True),
                ),
            ]  # fmt: skip
            continue
        if vector_grads is not None:
            programs.append(
                program(
                    f"embed, {group.name}", embed, *inputs, arrays,
                    runs=group.count, weight_passes=WeightPasses(gathers=1),
                )
            )  # fmt: skip
        programs.append(
            program(
                f"forward and backward, {group.name}", accumulate_gradients, *inputs, trained,
                arrays, vector_grads, objective.tokens, runs=group.count,
                weight_passes=WeightPasses(gathers=2, gradients=True),
            )
        )  # fmt: skip
    programs = [replace(each, beside=each.beside + kept) for each in programs]
    update = jax.jit(optimizer.apply, donate_argnums=0)
    programs.append(
        Program(
            name="optimizer",
            trace=functools.partial(update.trace, state, trained),
            runs=stage.rollout.num_iterations if stage.draws_thoughts else 1,
            resident=("frozen", "reference"),
        )
    )
    return programs


_BESIDE_SAMPLING = ("weights", "frozen", "optimizer", "reference", "prefetch")
"""What is in memory while the sampler's copy of the weights is in use."""


def _sampler_program(config: TrainConfig, model: AbstractModel) -> Program:
    """The copy of the weights, in the compute dtype, that samples and encodes."""
    return Program(
        name="copy for sampling",
        trace=functools.partial(
            sampler_weights.trace,
            model.parts.graphdef,
            model.trained,
            model.parts.frozen,
            config.model.dtype,
            model.gathered,
        ),
        runs=1,
        resident=("optimizer", "reference", "prefetch"),
        weight_passes=WeightPasses(gathers=int(bool(model.gathered)), gathers_vocabulary=True),
    )


def _rollout_programs(
    config: TrainConfig, stage: StageConfig, model: AbstractModel
) -> tuple[list[Program], int]:
    """Prefill and decoding, and the bytes of the caches."""
    rollout, mesh_context = stage.rollout, model.sampler_mesh
    options = _retriever_options(config, stage)
    shapes = replace(options.shapes, batch_divisor=mesh_context.batch_divisor)
    n, steps = rollout.num_generations, shapes.chunk_steps
    prompts = shapes.prompt_sizes(n)[0]
    length = shapes.prefix_size(stage.prompt_tokens(config.data.lengths))
    slots = shapes.suffix_size(rollout.max_thought_tokens + 1 + steps)
    graph, weights = model.sampler
    unstacked = _unstacks(graph, weights)
    entering = prompt_batch(prompts, n, length, mesh_context)
    start = functools.partial(
        start_batch, graph, mesh_context=mesh_context, unstacked=unstacked, slots=slots
    )
    state = on_mesh(jax.eval_shape(start, weights, entering), mesh_context)
    decode = _decode_weights(graph, weights, mesh_context) if unstacked else (graph, weights)
    batches = -(-stage.data.batch_size // prompts)
    chunks = -(-(rollout.max_thought_tokens + 1) // steps)
    shape = f"{prompts} x {n}"
    once = _sampler_passes(model)
    programs = [
        Program(
            name=f"prefill ({prompts} x {length})",
            trace=functools.partial(
                start_batch.trace, graph, weights, entering,
                mesh_context=mesh_context, unstacked=unstacked, slots=slots,
            ),
            runs=batches,
            resident=_BESIDE_SAMPLING,
            weight_passes=once,
        ),
        Program(
            name=f"decode {steps} tokens ({shape})",
            trace=functools.partial(
                decode_chunk.trace, *decode, state,
                array((prompts, n), jnp.int32, "pg", mesh_context),
                sampling=SamplingParams(temperature=rollout.temperature),
                stop=_STOP, max_steps=steps,
            ),
            runs=batches * chunks,
            resident=_BESIDE_SAMPLING,
            loop_trips=steps,
            weight_passes=WeightPasses(gathers=steps * once.gathers),
        ),
    ]  # fmt: skip
    return programs, bytes_per_device((state.prefix, state.suffix))


def _beside_a_rollout(program: Program) -> Program:
    """A program of an update during which the next rollout is sampled."""
    if program.name.startswith(ROLLOUT):
        return program
    return replace(program, resident=(*program.resident, "prefetch", "sampler", "caches"))


def _encode_programs(
    config: TrainConfig, stage: StageConfig, model: AbstractModel
) -> list[Program]:
    """Encoding of the documents that rewards rank or prompts show, and of queries, as a retriever.

    How often documents are encoded depends on the corpus and on the pool. Queries are encoded
    without a thought, once for the candidates that their prompts show and once for rewards that
    compare with that.
    """
    graph, weights = model.sampler
    max_positions = nnx.merge(graph, weights).config.max_positions
    options, mesh_context = _retriever_options(config, stage), model.sampler_mesh
    buckets, lengths = options.buckets.within(max_positions), config.data.lengths
    ranks = bool(stage.losses.policy)
    shapes: list[tuple[str, int, int, int]] = []  # texts, rows, length, runs
    if ranks or stage.candidates.k:
        length = buckets.length_for(min(lengths.document, max_positions))
        shapes.append(("documents", max(buckets.batch_sizes_for(length)), length, 0))
    times = bool(stage.candidates.k) + (ranks and stage.reward.needs_nothink)
    query = PromptTokens(ids=np.full(lengths.query + 1, _PAD, np.int32))
    query.ids[-1] = _STOP.emb
    queries = [query] * stage.data.batch_size if times else []
    batches = token_batches(queries, buckets, pad_id=_PAD, emb_token_id=_STOP.emb)
    for (rows, length), count in Counter(each.tokens.shape for each in batches).items():
        shapes.append(("queries", rows, length, times * count))
    programs = []
    for texts, rows, length, runs in shapes:
        padded = rows + -rows % mesh_context.batch_divisor
        tokens = array((padded, length), jnp.int32, "bl", mesh_context)
        emb_positions = array((padded,), jnp.int32, "b", mesh_context)
        programs.append(
            Program(
                name=f"encode {texts} ({padded} x {length})",
                trace=functools.partial(encode_rows.trace, graph, weights, tokens, emb_positions),
                runs=runs,
                resident=_BESIDE_SAMPLING,
                weight_passes=_sampler_passes(model),
            )
        )
    return programs


def _retriever_options(config: TrainConfig, stage: StageConfig) -> RetrieverOptions:
    rollout = stage.rollout
    return retriever_options(
        config.data.lengths,
        config.model.attention,
        max_rows=rollout.max_rows,
        max_thought_tokens=rollout.max_thought_tokens,
    )


def _sampler_passes(model: AbstractModel) -> WeightPasses:
    """A forward pass of the sampler's copy, which has whole weights if they are replicated."""
    return WeightPasses(gathers=int(not model.gathered))


def _unstacks(graph: nnx.GraphDef[Decoder], weights: nnx.State) -> bool:
    return nnx.merge(graph, weights).options.unroll_decode


def _decode_weights(
    graph: nnx.GraphDef[Decoder], weights: nnx.State, mesh_context: MeshContext
) -> tuple[nnx.GraphDef[Decoder], nnx.State]:
    decoder = nnx.eval_shape(lambda state: nnx.merge(graph, state).unstack_layers(), weights)
    unstacked, state = nnx.split(decoder)
    return unstacked, on_mesh(state, mesh_context)
