"""Everything that rejects a run before a model is loaded; run_warnings.py warns of what may run."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import jax

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, DataError, T1Error, UnsupportedError
from t1_jax.files import check_new_file
from t1_jax.model import SPLASH_MULTIPLE, DecoderConfig
from t1_jax.parallel import MeshContext
from t1_jax.retrieval.index import require_backend
from t1_jax.retriever import ResolvedModel, check_savable
from t1_jax.text import PromptPreset, T1Tokenizer, tokenize_documents, tokenize_queries
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import TrainingSet
from t1_jax.train.infra import (
    Checkpoints,
    DamagedCheckpoint,
    bucket_of,
    check_recorded_data,
    check_run_folder,
    checkpoint_folder,
    local_folder,
    require_trackers,
)
from t1_jax.train.rewards import dry_run_rewards
from t1_jax.train.sources import TrainingData
from t1_jax.train.validate import score_names

FREE_KEYS = ("output", "max_minutes", "watchdog_minutes", "resume", "overwrite", "run")
"""Config keys whose values may change when a run is resumed."""

_TEXT, _NO_LIMIT = "x", 2**31
"""A text of about one token, and no limit on its length."""

_LEAST_TEXT = 8
"""Tokens that a prompt must leave for the text."""


def check_config(config: TrainConfig) -> None:
    """Rejects what the config alone shows: an output that cannot be written, missing trackers.

    Raises:
        ConfigError: the run would overwrite the model or a file of records that it reads.
        UnsupportedError: a tracker is not installed.
        T1Error: the output folder cannot be created or written.
    """
    require_trackers(config.tracking)
    check_new_file(local_folder(config.output) / "config.yaml", overwrite=True)
    if not config.overwrite:
        return
    if (bucket := bucket_of(config.output)) is not None:
        raise ConfigError(
            "overwrite=true replaces local folders only",
            hint=f"choose another output, or: gcloud storage rm --recursive {bucket}",
        )
    output = config.output.resolve()
    records = [path for source in config.data.sources.values() for path in source.records]
    for path in (config.model.path, *records):
        if Path(path).resolve().is_relative_to(output):
            raise ConfigError(
                f"overwrite=true would remove {path}, which this run reads",
                hint="choose another output",
            )


def check_model(config: TrainConfig, resolved: ResolvedModel, mesh_context: MeshContext) -> None:
    """Rejects stages that model or mesh cannot compute, and weights that cannot be exported.

    Raises:
        ConfigError: see `check_shapes`.
        UnsupportedError: see `check_shapes`; or sampling ahead on several devices; or prompts that
            an exported model cannot express.
    """
    check_shapes(config, resolved.checkpoint.config, mesh_context.batch_divisor)
    check_prefetch(config, mesh_context.mesh.size)
    if config.model.lora is None and resolved.adapter is None:
        check_savable(
            resolved,
            dtype=config.model.export_dtype,
            max_document_tokens=config.data.lengths.document,
        )


def check_prefetch(config: TrainConfig, num_devices: int) -> None:
    """Rejects prefetched rollouts on several devices.

    Raises:
        UnsupportedError: a running stage sets `rollout.prefetch` and there are several devices.
    """
    for name in config.running:
        if config.stages[name].rollout.prefetch and num_devices > 1:
            raise UnsupportedError(
                f"stage {name}: rollout.prefetch runs two programs at once; several devices may "
                "start them in different orders and then deadlock",
                hint="set rollout.prefetch=false, or train on one device",
            )


def check_resume(config: TrainConfig, identity: Mapping[str, Any]) -> None:
    """Rejects a run folder that another run wrote; for `identity` see `run_identity`.

    Raises:
        ConfigError: the run in the folder has another config.
        WeightsError: its checkpoints are of another model, prompt or seed.
        T1Error: the folder holds something that is not a run.
    """
    folder = checkpoint_folder(config.output)
    if not config.overwrite and folder.is_dir():
        with Checkpoints(folder, config.checkpoints, writable=False) as checkpoints:
            for step in reversed(checkpoints.steps()):
                with suppress(DamagedCheckpoint):  # the run takes the one before it
                    checkpoints.meta(step, expect=identity)
                    break
    check_run_folder(
        local_folder(config.output),
        config,
        resume=config.resume,
        overwrite=config.overwrite,
        free=FREE_KEYS,
    )


def check_data(
    config: TrainConfig, data: TrainingData, tokenizer: T1Tokenizer, preset: PromptPreset
) -> None:
    """Rejects data that do not fit the run folder, the prompts, the rewards or the stages.

    Raises:
        ConfigError: see `check_prompts`, `check_rewards` and `check_metric`.
        DataError: the run was started on other data, or see `check_thoughts`.
    """
    if not config.overwrite:
        check_recorded_data(local_folder(config.output), data.facts())
    check_thoughts(config, data.sets)
    check_prompts(config, tokenizer, preset, data.sets)
    check_rewards(config, data.sets)
    if config.validation is not None:
        check_metric(config, data.validation)


def check_shapes(config: TrainConfig, shape: DecoderConfig, batch_divisor: int) -> None:
    """Rejects lengths, attention and micro-batches that the model or the mesh cannot compute.

    `batch_divisor` devices share the rows of a batch.

    Raises:
        ConfigError: texts longer than the model's context, or micro-batches that do not hold a
            row for each device.
        UnsupportedError: packed rows or shared prefixes with an attention that lacks them.
    """
    _check_positions(config, shape)
    for name in config.running:
        stage = config.stages[name]
        _check_attention(name, stage, config, shape)
        _check_micro_batches(name, stage, config, shape, batch_divisor)


def check_thoughts(config: TrainConfig, sets: Sequence[TrainingSet]) -> None:
    """Rejects stages that imitate or contrast reference thoughts, where no record has one.

    Raises:
        DataError: a running stage needs thoughts and gets none.
    """
    has_thoughts = any(record.thoughts for data in sets for record in data.records)
    for name in config.running:
        stage = config.stages[name]
        if not (stage.losses.sft or stage.contrast_reference_thoughts):
            continue
        if stage.data.thoughts == "none" or not (has_thoughts or stage.fixed_thought):
            raise DataError(
                f"stage {name} learns from reference thoughts, and no record has one",
                hint="write thoughts with `t1 thoughts`, set data.thoughts to optional or "
                "required, or set losses.sft=0 and contrast_reference_thoughts=false",
            )


def check_prompts(
    config: TrainConfig,
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    sets: Sequence[TrainingSet],
) -> None:
    """Rejects lengths that the prompts fill, so that no text fits, and unused instructions.

    Raises:
        ConfigError: records have instructions and the prompts have none, stages show candidates
            and the prompts do not or the reverse, a prompt with its instruction takes nearly all
            of `data.lengths`, or a fixed thought is longer than its limit.
    """
    lengths = config.data.lengths
    for data in sets:
        instructions = {r.instruction for r in data.records if r.instruction is not None}
        if instructions and not preset.uses_instruction:
            raise ConfigError(
                f"records of {data.name} have instructions, and the prompts {preset.name!r} have "
                "none, so they would do nothing",
                hint="remove them from the records, or set model.preset=t1",
            )
        own = [(preset.with_instruction(text), None) for text in sorted(instructions)]
        for prompts, task in [(preset, data.task), *own]:
            for think in (True, False):
                (row,) = tokenize_queries(
                    tokenizer, prompts, [_TEXT], max_tokens=_NO_LIMIT, task=task, think=think
                )
                _check_room("query", f"a query of {data.name}", len(row.ids), lengths.query)
    (row,) = tokenize_documents(tokenizer, preset, [_TEXT], max_tokens=_NO_LIMIT)
    _check_room("document", "a document", len(row.ids), lengths.document)
    _check_candidates(config, preset)
    for name in config.running:
        thought = config.stages[name].fixed_thought
        if thought is None:
            continue
        size = len(tokenizer.encode_thought(thought))
        if size > lengths.thought:
            raise ConfigError(
                f"stage {name}: fixed_thought has {size} tokens, more than data.lengths.thought "
                f"({lengths.thought})",
                hint=f"set data.lengths.thought={size}",
            )


def _check_candidates(config: TrainConfig, preset: PromptPreset) -> None:
    """Stages show candidates if and only if the prompts do: an adapter records its prompts."""
    shown = [name for name in config.running if config.stages[name].candidates.k]
    if shown and not preset.shows_candidates:
        raise ConfigError(
            f"stage {shown[0]} shows candidates, and the prompts {preset.name!r} have no place for "
            "them",
            hint=f"set model.preset=t1-candidates, or stages.{shown[0]}.candidates.k=0",
        )
    is_used = any(stage.candidates.k for stage in config.stages.values())
    if config.model.preset is not None and preset.shows_candidates and not is_used:
        raise ConfigError(
            f"the prompts {preset.name!r} show candidates, and no stage does, so the model would "
            "claim a training that it did not have",
            hint=f"set stages.{config.running[-1]}.candidates.k=8, or another model.preset",
        )


def _check_room(field: str, text: str, prompt_tokens: int, limit: int) -> None:
    if prompt_tokens + _LEAST_TEXT > limit:
        raise ConfigError(
            f"the prompt of {text} takes {prompt_tokens} of data.lengths.{field}={limit} tokens, "
            "which leaves no room for the text",
            hint=f"set data.lengths.{field} to at least {prompt_tokens + _LEAST_TEXT}, better to "
            f"{prompt_tokens} and the length of your texts",
        )


def check_rewards(config: TrainConfig, sets: Sequence[TrainingSet]) -> None:
    """Computes the rewards of every stage once, for made-up thoughts about a few real queries.

    This finds a function that returns the wrong shape or type, or NaN for an empty thought, before
    the first rollout.

    Raises:
        ConfigError: a reward fails, or the pool's index needs a package that is not installed.
    """
    records = [record for data in sets for record in data.records[:2]]
    for name in config.running:
        stage = config.stages[name]
        if not stage.losses.policy:
            continue
        try:
            if stage.pool.kind != "batch":
                require_backend(stage.pool.index)
                _check_processes(stage.pool.index)
            dry_run_rewards(
                records,
                stage.reward,
                num_generations=stage.rollout.num_generations,
                max_thought_tokens=stage.rollout.max_thought_tokens,
            )
        except T1Error as error:
            raise ConfigError(f"stage {name}: {error.message}", hint=error.hint) from error


def _check_processes(index: str) -> None:
    """Each process builds its own index, and rewards must be equal on all of them."""
    measured = {"scann": "ScaNN", "faiss": "FAISS"}
    if index in measured and jax.process_count() > 1:
        raise UnsupportedError(
            f"{measured[index]} builds a different index in each process, so rewards would differ",
            hint="set pool.index=jax, which shards the corpus over all devices",
        )


def check_metric(config: TrainConfig, collections: Iterable[str]) -> None:
    """Rejects a metric of the best checkpoint that validation does not compute.

    Raises:
        ConfigError: `checkpoints.metric` is not one of `score_names`.
    """
    metric, names = config.checkpoints.metric, score_names(collections)
    if metric not in names:
        raise ConfigError(
            f"checkpoints.metric={metric} is not a score of the validation",
            hint=suggestion(metric, names),
        )


def _check_positions(config: TrainConfig, shape: DecoderConfig) -> None:
    lengths, max_positions = config.data.lengths, shape.max_positions
    for name in config.running:
        stage = config.stages[name]
        limits = {"data.lengths.thought": lengths.thought}
        if config.validation is not None:
            limits["validation.max_thought_tokens"] = config.validation.max_thought_tokens
        if stage.draws_thoughts:
            limits[f"stages.{name}.rollout.max_thought_tokens"] = stage.rollout.max_thought_tokens
        prompt = stage.prompt_tokens(lengths)
        shown = f", with {stage.candidates.k} candidates" if stage.candidates.k else ""
        for key, tokens in limits.items():
            if prompt + tokens + 1 > max_positions:
                raise ConfigError(
                    f"a query of {prompt} tokens (data.lengths.query{shown}), {tokens} of a "
                    f"thought ({key}) and <emb_token> need {prompt + tokens + 1} positions; the "
                    f"model has {max_positions}",
                    hint="lower one of the two",
                )
    if lengths.document > max_positions:
        raise ConfigError(
            f"documents of {lengths.document} tokens (data.lengths.document) are longer than the "
            f"model's {max_positions} positions",
            hint=f"set data.lengths.document to at most {max_positions}",
        )


def _check_attention(
    name: str, stage: StageConfig, config: TrainConfig, shape: DecoderConfig
) -> None:
    attention = config.model.attention
    shares_prefix = stage.draws_thoughts and stage.rollout.shared_prefix
    if shares_prefix and (attention != "xla" or any(shape.windows)):
        raise UnsupportedError(
            f"stage {name}: rows with a shared prefix need xla attention without "
            f"a sliding window, got {attention} with windows {sorted(set(shape.windows))}",
            hint=f"set stages.{name}.rollout.shared_prefix=false",
        )
    if stage.pack and (attention != "xla" or any(shape.windows)):
        raise UnsupportedError(
            f"stage {name}: packed rows need xla attention without a sliding window, got "
            f"{attention} with windows {sorted(set(shape.windows))}",
            hint=f"set stages.{name}.pack=false",
        )
    if attention == "splash" and stage.micro_batch.length_step % SPLASH_MULTIPLE:
        raise UnsupportedError(
            f"stage {name}: splash attention needs rows of a multiple of {SPLASH_MULTIPLE} "
            f"tokens, got micro_batch.length_step={stage.micro_batch.length_step}",
            hint=f"set stages.{name}.micro_batch.length_step={SPLASH_MULTIPLE}",
        )


def _check_micro_batches(
    name: str, stage: StageConfig, config: TrainConfig, shape: DecoderConfig, batch_divisor: int
) -> None:
    for row, tokens, packed in _longest_rows(stage, config):
        padded = stage.micro_batch.padded_length(tokens)
        if not packed and padded > shape.max_positions:
            raise ConfigError(
                f"stage {name}: {row} of {tokens} tokens is padded to {padded}, beyond the model's "
                f"{shape.max_positions} positions",
                hint=f"lower stages.{name}.micro_batch.length_step or the lengths",
            )
        try:
            stage.micro_batch.rows_of(padded, batch_divisor)
        except ConfigError as error:
            raise ConfigError(f"stage {name}: {row}: {error.message}", hint=error.hint) from error


def _longest_rows(stage: StageConfig, config: TrainConfig) -> Iterator[tuple[str, int, bool]]:
    """Kinds of rows: name, maximum tokens, and whether one holds several texts."""
    lengths, rollout = config.data.lengths, stage.rollout
    prompt = stage.prompt_tokens(lengths)
    reference = (lengths.thought if stage.think else 0) + 1
    uses_reference = stage.losses.sft or stage.contrast_reference_thoughts
    if stage.draws_thoughts and rollout.shared_prefix:
        thoughts = rollout.num_generations * (rollout.max_thought_tokens + 1)
        thoughts += reference if uses_reference else 0
        yield "a prompt with its thoughts", prompt + thoughts, True
    elif stage.draws_thoughts:
        yield "a prompt with a thought", prompt + rollout.max_thought_tokens + 1, False
    if not stage.draws_thoughts or (uses_reference and not rollout.shared_prefix):
        yield "a query", prompt + reference, stage.pack
    if stage.losses.infonce or stage.losses.triplet:
        yield "a document", lengths.document, False
