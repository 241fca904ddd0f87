"""Warnings before training: settings without effect, truncated thoughts, a disk too small."""

import shutil
from collections.abc import Iterator, Sequence

from t1_jax.model import DecoderConfig, body_parameters
from t1_jax.train.config import StageConfig, TrainConfig
from t1_jax.train.data import TrainingSet
from t1_jax.train.infra import bucket_of, local_folder
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.sources import TrainingData

_SAMPLED_THOUGHTS = 2000
"""Most reference thoughts whose length is checked."""


def all_warnings(
    config: TrainConfig, shape: DecoderConfig, data: TrainingData, rows: RowBuilder
) -> list[str]:
    """Warnings about settings without effect, truncated thoughts and a full disk, as sentences."""
    optional = (truncation_warning(config, rows, data.sets), disk_warning(config, shape))
    return [*setting_warnings(config, data.sets), *(text for text in optional if text)]


def setting_warnings(config: TrainConfig, sets: Sequence[TrainingSet]) -> list[str]:
    """Warnings about settings that have no effect or defeat each other."""
    has_negatives = any(record.negatives for data in sets for record in data.records)
    return [
        f"stage {name}: {text}"
        for name in config.running
        for text in _stage_warnings(name, config.stages[name], has_negatives)
    ]


def truncation_warning(
    config: TrainConfig, rows: RowBuilder, sets: Sequence[TrainingSet]
) -> str | None:
    """A warning if reference thoughts are longer than `data.lengths.thought`."""
    is_read = any(
        stage.uses_reference_thoughts and not stage.fixed_thought and stage.data.thoughts != "none"
        for stage in map(config.stages.__getitem__, config.running)
    )
    texts = [text for data in sets for record in data.records for text in record.thoughts]
    if not is_read or not texts:
        return None
    sample = texts[:: -(-len(texts) // _SAMPLED_THOUGHTS)]
    truncated = sum(rows.thought(text)[1] for text in sample)
    if not truncated:
        return None
    return (
        f"{truncated} of {len(sample)} reference thoughts have more than "
        f"{config.data.lengths.thought} tokens (data.lengths.thought); they are truncated, and "
        "<emb_token> is not imitated after them"
    )


def disk_warning(config: TrainConfig, shape: DecoderConfig) -> str | None:
    """A warning if the disk has no room for one export of all weights and, unless the run is in a
    bucket, one checkpoint.
    """
    if config.model.lora is not None:
        return None
    tables = (1 if shape.tie_embeddings else 2) * shape.vocab_size * shape.embed_dim
    parameters = body_parameters(shape) + tables
    needed = parameters * (4 if config.model.export_dtype == "float32" else 2)
    what = "the exported weights take"
    if bucket_of(config.output) is None:
        copies = max(_copies_in_checkpoint(config.stages[name]) for name in config.running)
        needed += parameters * 4 * copies
        what = "a checkpoint and the weights exported from it take"
    output = local_folder(config.output).absolute()
    folder = next(path for path in (output, *output.parents) if path.exists())
    free = shutil.disk_usage(folder).free
    if free >= needed:
        return None
    return f"{what} about {needed / 1e9:.1f} GB, and {folder} has {free / 1e9:.1f} GB left"


def _copies_in_checkpoint(stage: StageConfig) -> int:
    """How many float32 copies of the weights a checkpoint of a stage holds."""
    has_reference = bool(stage.losses.policy) and stage.policy.resolved().beta > 0
    has_sampling_copy = stage.draws_thoughts and stage.rollout.prefetch
    return 3 + (stage.optimizer.ema is not None) + has_reference + has_sampling_copy


def _stage_warnings(name: str, stage: StageConfig, has_negatives: bool) -> Iterator[str]:
    if stage.losses.triplet and not has_negatives:
        yield ("the triplet loss adds nothing, since no record names a hard negative (see t1 mine)")
    if stage.losses.infonce and stage.data.batch_size == 1 and not has_negatives:
        yield (
            "infonce adds nothing, since a step of one query without hard negatives has one "
            f"document; set stages.{name}.data.batch_size above 1"
        )
    if stage.draws_thoughts and not (stage.losses.sft or stage.losses.policy):
        yield (
            "no loss trains the sampled thoughts, so they soon stop to end by themselves; set "
            f"stages.{name}.losses.sft above 0"
        )
    is_frozen = stage.losses.policy and stage.pool.kind == "frozen"
    if is_frozen and (stage.losses.infonce or stage.losses.triplet):
        yield (
            "rewards rank the document embeddings from before the stage, and the contrastive loss "
            f"changes them; set stages.{name}.losses.infonce and triplet to 0"
        )
    if stage.losses.policy:
        yield from _policy_warnings(name, stage)


def _policy_warnings(name: str, stage: StageConfig) -> Iterator[str]:
    policy = stage.policy
    if policy.loss == "dr_grpo" and stage.advantage.kind == "grpo":
        yield (
            "the loss dr_grpo with advantages divided by their standard deviation is not Dr.GRPO; "
            f"set stages.{name}.advantage.kind=dr_grpo"
        )
    clips = [field for field in ("clip_low", "clip_high", "dual_clip") if policy.__dict__[field]]
    if policy.loss in ("dapo", "gspo"):
        clips.insert(0, f"the clip of loss={policy.loss}")
    if clips and stage.rollout.num_iterations == 1:
        yield (
            f"{', '.join(clips)} will do nothing, since with one update per rollout the importance "
            f"ratio is 1; set stages.{name}.rollout.num_iterations above 1, or leave them out, "
            "with loss=grpo"
        )
