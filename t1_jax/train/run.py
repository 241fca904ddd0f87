"""A training run: open, check, load, resume, train, export."""

import functools

import jax

from t1_jax.parallel import MeshContext, count_compilations, make_mesh_context
from t1_jax.train.checks import (
    FREE_KEYS,
    check_config,
    check_data,
    check_model,
    check_resume,
)
from t1_jax.train.config import TrainConfig
from t1_jax.train.infra import (
    Checkpoints,
    GracefulStop,
    RunFolder,
    Watchdog,
    bucket_of,
    download_run,
)
from t1_jax.train.model import (
    TrainableModel,
    load_trainable_model,
    open_trainable_model,
    run_identity,
)
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.run_warnings import all_warnings
from t1_jax.train.saver import RunSaver
from t1_jax.train.sources import TrainingData, load_training_data
from t1_jax.train.stage import Stage
from t1_jax.train.trainer import Log, Trainer, TrainResult


def train(
    config: TrainConfig,
    *,
    log: Log = print,
    show_progress: bool = True,
    mesh_context: MeshContext | None = None,
) -> TrainResult:
    """Runs the stages of a config, or resumes the run in its folder.

    `log` receives warnings and milestones, on the first process only. The default of `mesh_context`
    is all devices, laid out as `config.mesh` says.

    Raises:
        ConfigError: settings that contradict each other or do not fit the devices.
        DataError: training data that cannot be read, or that leak.
        WeightsError: a model or a checkpoint that cannot be used, or belongs to another run.
        UnsupportedError: a combination of settings, devices and packages that cannot work.
        TrainingAborted: the metrics show that the run is broken.
        RetryableError: a disk, a tracker or a reward failed; the run is saved up to there.
    """
    is_first = jax.process_index() == 0
    log = log if is_first else lambda text: None

    # Open the model's and the data's files and check everything, before weights are read.
    check_config(config)
    download_run(config.output)
    resolved = open_trainable_model(config.model)
    tokenizer, preset = resolved.tokenizer, resolved.preset
    mesh_context = mesh_context or make_mesh_context(config.mesh)
    check_model(config, resolved, mesh_context)
    identity = run_identity(resolved, config.model.lora, config.seed)
    check_resume(config, identity)
    data = load_training_data(config.data, config.validation)
    check_data(config, data, tokenizer, preset)
    rows = RowBuilder(tokenizer, preset, data.sets, config.data.lengths)
    for line in data.notices():
        log(line)
    for warning in all_warnings(config, resolved.checkpoint.config, data, rows):
        log(f"warning: {warning}")

    model = load_trainable_model(resolved, config.model, mesh_context, seed=config.seed)
    stop = GracefulStop(config.max_minutes)

    @functools.cache
    def stage_of(name: str) -> Stage:
        return Stage(name, config, model, data.sets, rows, stop)

    for name in config.running:  # none is rejected after those before it have run
        stage_of(name)

    # The run folder exists from here on.
    folder = RunFolder(
        config.output, config, resume=config.resume, overwrite=config.overwrite, free=FREE_KEYS
    )
    if folder.overwritten is not None:
        log(f"the previous run stays in {folder.overwritten} until this one is saved")
    if (bucket := bucket_of(config.output)) is not None:
        log(f"the run is in {bucket}; its local copy is {folder.path}")
    folder.write_data(data.facts())
    log(_summary(config, data, model))
    with (
        stop,
        Watchdog(lambda: stop.progress, config.watchdog_minutes),
        Checkpoints(folder.checkpoints, config.checkpoints) as checkpoints,
        mesh_context.activate(),
        count_compilations() as compiled,
    ):
        saver = RunSaver(config, data, model, folder, checkpoints, identity=identity, log=log)
        trainer = Trainer(
            config,
            data,
            model,
            stage_of,
            saver,
            stop,
            log,
            show_progress=show_progress and is_first,
        )
        result = trainer.run()
        log(f"{compiled.count} programs were compiled in {compiled.seconds:.0f} s")
        return result


def _summary(config: TrainConfig, data: TrainingData, model: TrainableModel) -> str:
    sets = ", ".join(f"{item.name} ({len(item.records)} queries)" for item in data.sets)
    leaks = data.leaks
    trainable = sum(leaf.size for leaf in jax.tree.leaves(model.initial))
    return (
        f"{config.model.path}: {trainable / 1e6:.1f} M of {model.parameters / 1e6:.1f} M "
        f"parameters are trained, on {sets}; removed: {leaks.exact} queries that are in a held-out "
        f"split, {leaks.near} near duplicates of one, {leaks.merged} duplicates"
    )
