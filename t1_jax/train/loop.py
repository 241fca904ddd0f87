"""Training: everything is opened, checked and loaded here, and then the curriculum runs."""

from collections.abc import Mapping
from typing import Any

import jax

from t1_jax.parallel import MeshContext, count_compilations, make_mesh_context
from t1_jax.retriever import check_savable
from t1_jax.train.config import TrainConfig
from t1_jax.train.curriculum import Curriculum, Tell, TrainResult
from t1_jax.train.model import TrainableModel, load_trainable_model, open_trainable_model
from t1_jax.train.preflight import (
    check_metric,
    check_output,
    check_prompts,
    check_rewards,
    check_run,
    disk_warning,
    truncation_warning,
    warnings_of,
)
from t1_jax.train.rows import RowMaker
from t1_jax.train.run import (
    Checkpoints,
    GracefulStop,
    RunFolder,
    check_data,
    check_run_folder,
    require_trackers,
)
from t1_jax.train.sources import TrainingData, load_training_data
from t1_jax.train.stage import Stages

FREE_KEYS = ("output", "max_minutes", "resume", "overwrite", "run")
"""Settings that a run may be taken up with other values of."""


def train(
    config: TrainConfig, *, tell: Tell, shown: bool = True, mesh_context: MeshContext | None = None
) -> TrainResult:
    """Runs the stages of a config, or takes a run up where it stopped.

    Args:
        config: what to do.
        tell: where warnings and milestones go; the first process alone speaks.
        shown: whether to draw progress bars.
        mesh_context: where to train; default all devices, laid out as `config.mesh` says.

    Raises:
        ConfigError: settings that contradict each other or do not fit the devices.
        DataError: training data that cannot be read, or that leaks.
        WeightsError: a model or a checkpoint that cannot be used, or belongs to another run.
        TrainingAborted: the run went wrong in a way that going on would not hint.
        RetryableError: a disk, a tracker or a reward failed; the run is saved up to there.
    """
    is_first = jax.process_index() == 0
    tell = tell if is_first else _silent
    check_output(config)
    require_trackers(config.tracking)
    files = open_trainable_model(config.model)
    mesh_context = mesh_context or make_mesh_context(config.mesh)
    check_run(config, files.checkpoint.config, mesh_context.batch_divisor)
    resolved, shape = files.resolved, files.checkpoint.config
    if config.model.lora is None and files.adapter is None:
        check_savable(
            resolved,
            dtype=config.model.export_dtype,
            max_document_tokens=config.data.lengths.document,
        )
    identity = files.identity(config.model.lora, config.seed)
    _check_checkpoints(config, identity)
    check_run_folder(
        config.output,
        config,
        resume=config.resume,
        overwrite=config.overwrite,
        free=FREE_KEYS,
    )
    data = load_training_data(config.data, config.validation)
    if not config.overwrite:
        check_data(config.output, data.facts())
    check_prompts(config, resolved.tokenizer, resolved.preset, data.sets)
    check_rewards(config, data.sets)
    check_metric(config, data.validation)
    for name, notes in data.notes.items():
        for what, count in notes.items():
            tell(f"{name}: {count:,} {what}")
    if data.removed_negatives:
        tell(f"{data.removed_negatives} negatives are the query itself or answer it: taken out")
    rows = RowMaker(resolved.tokenizer, resolved.preset, data.sets, config.data.lengths)
    warnings = (
        *warnings_of(config, data.sets),
        truncation_warning(config, rows, data.sets),
        disk_warning(config, shape),
    )
    for warning in filter(None, warnings):
        tell(f"warning: {warning}")
    student = load_trainable_model(files, config.model, mesh_context, seed=config.seed)
    stages = Stages(config, data, student, rows)
    # From here on there is a run folder.
    folder = RunFolder(
        config.output,
        config,
        resume=config.resume,
        overwrite=config.overwrite,
        free=FREE_KEYS,
    )
    if folder.overwritten is not None:
        tell(f"the former run stays in {folder.overwritten} until this one is saved")
    folder.write_data(data.facts())
    tell(_summary(config, data, student))
    with (
        GracefulStop(config.max_minutes) as stop,
        Checkpoints(folder.checkpoints, config.checkpoints) as checkpoints,
        mesh_context.activate(),
        count_compilations() as compiled,
    ):
        curriculum = Curriculum(
            config,
            data,
            student,
            stages,
            folder,
            checkpoints,
            stop,
            tell,
            identity=identity,
            shown=shown and is_first,
        )
        result = curriculum.run()
        tell(f"{compiled.count} programs were compiled in {compiled.seconds:.0f} s")
        return result


def _check_checkpoints(config: TrainConfig, identity: Mapping[str, Any]) -> None:
    """Refuses a run folder that belongs to another model, before anything is loaded."""
    folder = config.output / "checkpoints"
    if config.overwrite or not folder.is_dir():
        return
    with Checkpoints(folder, config.checkpoints, writable=False) as checkpoints:
        latest = checkpoints.latest()
        if latest is not None:
            checkpoints.meta(latest, expect=identity)


def _silent(text: str) -> None:
    """What processes other than the first say."""


def _summary(config: TrainConfig, data: TrainingData, student: TrainableModel) -> str:
    sets = ", ".join(f"{each.name} ({len(each.records)} queries)" for each in data.sets)
    leaks = data.leaks
    learning = sum(leaf.size for leaf in jax.tree.leaves(student.initial))
    return (
        f"{config.model.path}: {learning / 1e6:.1f} M of {student.parameters / 1e6:.1f} M "
        f"parameters learn; training on {sets}; taken out: {leaks.exact} queries that a held-out "
        f"split has too, {leaks.near} that are nearly one, {leaks.merged} repeated"
    )
