"""What can be seen to fail, or to do nothing, before anything is compiled."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import jax

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, T1Error, UnsupportedError
from t1_jax.model import SPLASH_MULTIPLE, DecoderConfig
from t1_jax.retrieval.index import require_backend
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import TrainingSet
from t1_jax.train.rewards import rehearse
from t1_jax.train.validate import score_names


def check_output(config: TrainConfig) -> None:
    """Refuses to overwrite what is to be read.

    Raises:
        ConfigError: the model or a file of records lies in the run folder.
    """
    if not config.overwrite:
        return
    output = config.output.resolve()
    files = [path for source in config.data.sources.values() for path in source.records]
    for read in (config.model.path, *files):
        if Path(read).resolve().is_relative_to(output):
            raise ConfigError(
                f"overwrite=true would remove {read}, which this run reads",
                mend="choose another output",
            )


def check_run(config: TrainConfig, shape: DecoderConfig, row_multiple: int) -> None:
    """Refuses stages that the model, its attention or the mesh cannot compute.

    Args:
        config: of the run.
        shape: of the decoder.
        row_multiple: devices that share the rows of a batch.

    Raises:
        ConfigError: texts longer than the model's context, or micro-batches that do not hold a
            row for each device.
        UnsupportedError: packed rows or shared prompts with an attention that cannot have them.
    """
    _check_positions(config, shape)
    for name in config.running:
        stage = config.stages[name]
        _check_attention(name, stage, config, shape)
        _check_micro_batches(name, stage, config, shape, row_multiple)


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
                records, stage.reward, thoughts=stage.rollout.thoughts, budget=stage.rollout.budget
            )
        except T1Error as error:
            raise ConfigError(f"stage {name}: {error.message}", mend=error.mend) from error


def _check_processes(index: str) -> None:
    """Each process builds an index of its own, and rewards must be the same on all."""
    if index == "scann" and jax.process_count() > 1:
        raise UnsupportedError(
            "ScaNN gives each process another index, and so other rewards",
            mend="set pool.index=device, which spreads the corpus over all devices",
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
            mend=suggestion(metric, names),
        )


def warnings_of(config: TrainConfig, sets: Sequence[TrainingSet]) -> tuple[str, ...]:
    """What is set and will do nothing, in sentences."""
    return tuple(_warnings(config, sets))


def _warnings(config: TrainConfig, sets: Sequence[TrainingSet]) -> Iterator[str]:
    mined = any(record.negatives for each in sets for record in each.records)
    for name in config.running:
        stage = config.stages[name]
        if stage.losses.triplet and not mined:
            yield (
                f"stage {name}: the triplet loss adds nothing, since no record names a hard "
                "negative (see t1 mine)"
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
            f"the importance ratio is 1; set stages.{name}.rollout.num_iterations above 1, or take "
            "loss=grpo"
        )


def _check_positions(config: TrainConfig, shape: DecoderConfig) -> None:
    lengths, most = config.data.lengths, shape.max_positions
    after = {"data.lengths.thought": lengths.thought, "validation.budget": config.validation.budget}
    for name in config.running:
        if config.stages[name].draws_thoughts:
            after[f"stages.{name}.rollout.budget"] = config.stages[name].rollout.budget
    for name, tokens in after.items():
        if lengths.query + tokens + 1 > most:
            raise ConfigError(
                f"a query of {lengths.query} tokens (data.lengths.query), {tokens} of a thought "
                f"({name}) and <emb_token> need {lengths.query + tokens + 1} positions; the model "
                f"has {most}",
                mend="lower one of the two",
            )
    if lengths.document > most:
        raise ConfigError(
            f"documents of {lengths.document} tokens (data.lengths.document) are longer than the "
            f"model's {most} positions",
            mend=f"set data.lengths.document to at most {most}",
        )


def _check_attention(
    name: str, stage: StageConfig, config: TrainConfig, shape: DecoderConfig
) -> None:
    attention = config.model.attention
    shares = stage.draws_thoughts and stage.rollout.share_prompt
    if shares and (attention != "xla" or any(shape.windows)):
        raise UnsupportedError(
            f"stage {name}: thoughts that share the row of their prompt need xla attention without "
            f"a sliding window, got {attention} with windows {sorted(set(shape.windows))}",
            mend=f"set stages.{name}.rollout.share_prompt=false",
        )
    if stage.pack and (attention != "xla" or any(shape.windows)):
        raise UnsupportedError(
            f"stage {name}: packed rows need xla attention without a sliding window, got "
            f"{attention} with windows {sorted(set(shape.windows))}",
            mend=f"set stages.{name}.pack=false",
        )
    if attention == "splash" and stage.micro_batch.length_step % SPLASH_MULTIPLE:
        raise UnsupportedError(
            f"stage {name}: splash attention needs rows of a multiple of {SPLASH_MULTIPLE} "
            f"tokens, got micro_batch.length_step={stage.micro_batch.length_step}",
            mend=f"set stages.{name}.micro_batch.length_step={SPLASH_MULTIPLE}",
        )


def _check_micro_batches(
    name: str, stage: StageConfig, config: TrainConfig, shape: DecoderConfig, row_multiple: int
) -> None:
    for row, tokens, packed in _longest_rows(stage, config):
        padded = stage.micro_batch.padded_length(tokens)
        if not packed and padded > shape.max_positions:
            raise ConfigError(
                f"stage {name}: {row} of {tokens} tokens is padded to {padded}, beyond the model's "
                f"{shape.max_positions} positions",
                mend=f"lower stages.{name}.micro_batch.length_step or the lengths",
            )
        try:
            stage.micro_batch.rows_of(padded, row_multiple)
        except ConfigError as error:
            raise ConfigError(f"stage {name}: {row}: {error.message}", mend=error.mend) from error


def _longest_rows(stage: StageConfig, config: TrainConfig) -> Iterator[tuple[str, int, bool]]:
    """Each kind of row, the most tokens it may have, and whether it holds several texts."""
    lengths, rollout = config.data.lengths, stage.rollout
    given = (lengths.thought if stage.think else 0) + 1
    reads_given = stage.losses.sft or stage.given_vectors
    if stage.draws_thoughts and rollout.share_prompt:
        thoughts = rollout.thoughts * (rollout.budget + 1) + (given if reads_given else 0)
        yield "a prompt with its thoughts", lengths.query + thoughts, True
    elif stage.draws_thoughts:
        yield "a prompt with a thought", lengths.query + rollout.budget + 1, False
    if not stage.draws_thoughts or (reads_given and not rollout.share_prompt):
        yield "a query", lengths.query + given, stage.pack
    if stage.losses.infonce or stage.losses.triplet:
        yield "a document", lengths.document, False
