"""What can be seen to fail, or to do nothing, before anything is compiled."""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.model import SPLASH_MULTIPLE, DecoderConfig
from t1_jax.retrieval.index import require_backend
from t1_jax.text import PromptPreset, T1Tokenizer, tokenize_documents, tokenize_queries
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import TrainingSet
from t1_jax.train.rewards import rehearse
from t1_jax.train.rows import RowMaker
from t1_jax.train.run import body_parameters
from t1_jax.train.validate import score_names

_SAMPLED_THOUGHTS = 2000
"""Given thoughts whose length is looked at before a run."""

_TEXT, _ANY = "x", 2**31
"""A text of about one token, and no limit to it."""

_LEAST_TEXT = 8
"""Tokens of a text that a prompt must leave room for."""


def check_output(config: TrainConfig) -> None:
    """Rejects a run folder that cannot be written, or that holds what is to be read.

    Raises:
        ConfigError: the model or a file of records lies in a run folder that is overwritten.
        T1Error: the folder cannot be created or written.
    """
    parent = _existing_parent(config.output)
    if not (parent.is_dir() and os.access(parent, os.W_OK | os.X_OK)):
        raise T1Error(
            f"{config.output} cannot be written: {parent} is no folder in which you may write",
            hint="choose another output",
        )
    if not config.overwrite:
        return
    output = config.output.resolve()
    files = [path for source in config.data.sources.values() for path in source.records]
    for read in (config.model.path, *files):
        if Path(read).resolve().is_relative_to(output):
            raise ConfigError(
                f"overwrite=true would remove {read}, which this run reads",
                hint="choose another output",
            )


def check_run(config: TrainConfig, shape: DecoderConfig, batch_divisor: int) -> None:
    """Refuses stages that the model, its attention or the mesh cannot compute.

    Args:
        config: of the run.
        shape: of the decoder.
        batch_divisor: devices that share the rows of a batch.

    Raises:
        ConfigError: texts longer than the model's context, or micro-batches that do not hold a
            row for each device.
        UnsupportedError: packed rows or shared prompts with an attention that cannot have them.
    """
    _check_positions(config, shape)
    for name in config.running:
        stage = config.stages[name]
        _check_attention(name, stage, config, shape)
        _check_micro_batches(name, stage, config, shape, batch_divisor)


def check_prompts(
    config: TrainConfig,
    tokenizer: T1Tokenizer,
    preset: PromptPreset,
    sets: Sequence[TrainingSet],
) -> None:
    """Rejects lengths that the prompts leave no room for a text in.

    Raises:
        ConfigError: a prompt with its instruction takes nearly all of `data.lengths`, or a fixed
            thought is longer than its limit.
    """
    lengths = config.data.lengths
    for each in sets:
        own = sorted({record.instruction for record in each.records} - {None}, key=str)
        wordings = [preset, *(preset.with_instruction(words) for words in own if words is not None)]
        for number, wording in enumerate(wordings):
            task = None if number else each.task
            for think in (True, False):
                (row,) = tokenize_queries(
                    tokenizer, wording, [_TEXT], max_tokens=_ANY, task=task, think=think
                )
                _check_room("query", f"a query of {each.name}", len(row.ids), lengths.query)
    (row,) = tokenize_documents(tokenizer, preset, [_TEXT], max_tokens=_ANY)
    _check_room("document", "a document", len(row.ids), lengths.document)
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


def _check_room(field: str, text: str, prompt: int, most: int) -> None:
    if prompt + _LEAST_TEXT > most:
        raise ConfigError(
            f"the prompt of {text} takes {prompt} of data.lengths.{field}={most} tokens, which "
            "leaves no room for the text",
            hint=f"set data.lengths.{field} to at least {prompt + _LEAST_TEXT}, better to the "
            "length of your texts more",
        )


def _existing_parent(path: Path) -> Path:
    """The path itself, or the nearest folder above it that exists."""
    path = path.absolute()
    return next(each for each in (path, *path.parents) if each.exists())


def check_rewards(config: TrainConfig, sets: Sequence[TrainingSet]) -> None:
    """Computes every stage's rewards once, of thoughts made up for a few real queries.

    A function that returns the wrong shape or type, or NaN for an empty thought, is found here and
    not after the first rollout.

    Raises:
        ConfigError: a reward fails, or the pool's index needs a package that is not installed.
    """
    records = [record for each in sets for record in each.records[:2]]
    for name in config.running:
        stage = config.stages[name]
        if not stage.losses.policy:
            continue
        try:
            if stage.pool.kind != "batch":
                require_backend(stage.pool.index)
                _check_processes(stage.pool.index)
            rehearse(
                records,
                stage.reward,
                thoughts=stage.rollout.num_generations,
                max_thought_tokens=stage.rollout.max_thought_tokens,
            )
        except T1Error as error:
            raise ConfigError(f"stage {name}: {error.message}", hint=error.hint) from error


def _check_processes(index: str) -> None:
    """Each process builds an index of its own, and rewards must be the same on all."""
    if index == "scann" and jax.process_count() > 1:
        raise UnsupportedError(
            "ScaNN gives each process another index, and so other rewards",
            hint="set pool.index=device, which spreads the corpus over all devices",
        )


def check_metric(config: TrainConfig, collections: Iterable[str]) -> None:
    """Refuses to look for the best checkpoint by a metric that validation does not give.

    Raises:
        ConfigError: `checkpoints.metric` is not one of `score_names`.
    """
    metric, names = config.checkpoints.metric, score_names(collections)
    if metric not in names:
        raise ConfigError(
            f"checkpoints.metric={metric} is not what validation gives",
            hint=suggestion(metric, names),
        )


def warnings_of(config: TrainConfig, sets: Sequence[TrainingSet]) -> tuple[str, ...]:
    """What is set and will do nothing, in sentences."""
    return tuple(_warnings(config, sets))


def truncation_warning(
    config: TrainConfig, rows: RowMaker, sets: Sequence[TrainingSet]
) -> str | None:
    """A sentence about given thoughts that are longer than their limit, if there are any."""
    reading = [
        stage
        for stage in map(config.stages.__getitem__, config.running)
        if stage.think
        and not stage.fixed_thought
        and stage.data.thoughts != "none"
        and (stage.losses.sft or stage.contrast_reference_thoughts or not stage.draws_thoughts)
    ]
    texts = [text for each in sets for record in each.records for text in record.thoughts]
    if not reading or not texts:
        return None
    some = texts[:: -(-len(texts) // _SAMPLED_THOUGHTS)]
    truncated = sum(rows.thought(text)[1] for text in some)
    if not truncated:
        return None
    return (
        f"{truncated} of {len(some)} given thoughts have more than {config.data.lengths.thought} "
        "tokens (data.lengths.thought); their end is cut off, and is not imitated as an end"
    )


def disk_warning(config: TrainConfig, shape: DecoderConfig) -> str | None:
    """A sentence about a disk too small for one checkpoint and one export, if it is."""
    if config.model.lora is not None:
        return None
    tables = (1 if shape.tie_embeddings else 2) * shape.vocab_size * shape.embed_dim
    parameters = body_parameters(shape) + tables
    copies = max(_copies_in_checkpoint(config.stages[name]) for name in config.running)
    stored = 4 if config.model.export_dtype == "float32" else 2
    needed = parameters * (4 * copies + stored)
    parent = _existing_parent(config.output)
    free = shutil.disk_usage(parent).free
    if free >= needed:
        return None
    return (
        f"a checkpoint and the weights exported from it take about {needed / 1e9:.1f} GB, and "
        f"{parent} has {free / 1e9:.1f} GB left"
    )


def _copies_in_checkpoint(stage: StageConfig) -> int:
    """How many float32 copies of the weights a checkpoint of a stage holds."""
    reference = bool(stage.losses.policy) and stage.policy.resolved().beta > 0
    drawing = stage.draws_thoughts and stage.rollout.prefetch
    return 3 + (stage.optimizer.ema is not None) + reference + drawing


def _warnings(config: TrainConfig, sets: Sequence[TrainingSet]) -> Iterator[str]:
    mined = any(record.negatives for each in sets for record in each.records)
    for name in config.running:
        stage = config.stages[name]
        if stage.losses.triplet and not mined:
            yield (
                f"stage {name}: the triplet loss adds nothing, since no record names a hard "
                "negative (see t1 mine)"
            )
        if stage.losses.infonce and stage.data.batch_size == 1 and not mined:
            yield (
                f"stage {name}: infonce adds nothing, since a step of one query without hard "
                f"negatives has one document; set stages.{name}.data.batch_size above 1"
            )
        if stage.draws_thoughts and not (stage.losses.sft or stage.losses.policy):
            yield (
                f"stage {name}: thoughts that are neither imitated nor rewarded soon no longer end "
                f"before their budget; give stages.{name}.losses.sft a weight"
            )
        frozen = stage.losses.policy and stage.pool.kind == "frozen"
        if frozen and (stage.losses.infonce or stage.losses.triplet):
            yield (
                f"stage {name}: rewards rank documents as they were before the stage, and its "
                f"contrast moves them; set stages.{name}.losses.infonce and triplet to 0"
            )
        if stage.losses.policy:
            yield from _policy_warnings(name, stage)


def _policy_warnings(name: str, stage: StageConfig) -> Iterator[str]:
    policy = stage.policy
    if policy.loss == "dr_grpo" and stage.advantage.kind == "grpo":
        yield (
            f"stage {name}: the loss dr_grpo with advantages over their standard deviation is "
            f"not Dr.GRPO; set stages.{name}.advantage.kind=dr_grpo"
        )
    clips = [field for field in ("clip_low", "clip_high", "dual_clip") if policy.__dict__[field]]
    if policy.loss in ("dapo", "gspo"):
        clips.insert(0, f"the clip of loss={policy.loss}")
    if clips and stage.rollout.num_iterations == 1:
        yield (
            f"stage {name}: {', '.join(clips)} will do nothing, since with one update per rollout "
            f"the importance ratio is 1; set stages.{name}.rollout.num_iterations above 1, or "
            "leave them out, with loss=grpo"
        )


def _check_positions(config: TrainConfig, shape: DecoderConfig) -> None:
    lengths, most = config.data.lengths, shape.max_positions
    after = {
        "data.lengths.thought": lengths.thought,
        "validation.max_thought_tokens": config.validation.max_thought_tokens,
    }
    for name in config.running:
        if config.stages[name].draws_thoughts:
            after[f"stages.{name}.rollout.budget"] = config.stages[name].rollout.max_thought_tokens
    for name, tokens in after.items():
        if lengths.query + tokens + 1 > most:
            raise ConfigError(
                f"a query of {lengths.query} tokens (data.lengths.query), {tokens} of a thought "
                f"({name}) and <emb_token> need {lengths.query + tokens + 1} positions; the model "
                f"has {most}",
                hint="lower one of the two",
            )
    if lengths.document > most:
        raise ConfigError(
            f"documents of {lengths.document} tokens (data.lengths.document) are longer than the "
            f"model's {most} positions",
            hint=f"set data.lengths.document to at most {most}",
        )


def _check_attention(
    name: str, stage: StageConfig, config: TrainConfig, shape: DecoderConfig
) -> None:
    attention = config.model.attention
    shares = stage.draws_thoughts and stage.rollout.shared_prefix
    if shares and (attention != "xla" or any(shape.windows)):
        raise UnsupportedError(
            f"stage {name}: thoughts that share the row of their prompt need xla attention without "
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
    """Each kind of row, the most tokens it may have, and whether it holds several texts."""
    lengths, rollout = config.data.lengths, stage.rollout
    given = (lengths.thought if stage.think else 0) + 1
    reads_given = stage.losses.sft or stage.contrast_reference_thoughts
    if stage.draws_thoughts and rollout.shared_prefix:
        thoughts = rollout.num_generations * (rollout.max_thought_tokens + 1) + (
            given if reads_given else 0
        )
        yield "a prompt with its thoughts", lengths.query + thoughts, True
    elif stage.draws_thoughts:
        yield "a prompt with a thought", lengths.query + rollout.max_thought_tokens + 1, False
    if not stage.draws_thoughts or (reads_given and not rollout.shared_prefix):
        yield "a query", lengths.query + given, stage.pack
    if stage.losses.infonce or stage.losses.triplet:
        yield "a document", lengths.document, False
