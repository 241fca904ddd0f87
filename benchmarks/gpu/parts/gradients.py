"""One update of each stage on the accelerator against the same update on the CPU, at toy size."""

from typing import Any

import jax
import numpy as np
from flax import nnx

from benchmarks.gpu.record import Record
from benchmarks.gpu.setting import Setting, run_part
from benchmarks.gpu.toy import STAGES, toy_config, toy_files
from t1_jax.interrupt import Interrupt
from t1_jax.parallel import MeshConfig, MeshContext, make_mesh_context, single_device_mesh_context
from t1_jax.train import TrainConfig
from t1_jax.train.data import BatchIterator
from t1_jax.train.infra.throughput import Clock
from t1_jax.train.model import TrainableModel, load_trainable_model, open_trainable_model
from t1_jax.train.optimizer import Optimizer, OptimizerConfig
from t1_jax.train.rollout import RolloutBatches
from t1_jax.train.rollout_record import Rollout
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.sources import TrainingData, load_training_data
from t1_jax.train.stage import stage_objective
from t1_jax.train.step import StepBatch, train_step
from t1_jax.train.supervised import SupervisedBatches

_ALLOWED = 1e-4
"""Largest ‖update − CPU's‖ / ‖CPU's‖ of a weight, in float32."""
_PLAIN = OptimizerConfig(
    learning_rate=1.0, schedule="constant", warmup_ratio=0.0, epsilon=1.0, clip_norm=0.0
)
"""The first update is -g/(|g| + 1): a smooth function of the gradient g, which shows all of it."""


def check(setting: Setting, record: Record) -> None:
    """Thoughts of stage 3 are drawn on the CPU, so that both learn from the same ones."""
    if setting.toy:
        # Two CPU devices, so that one of them is not the default, as the CPU beside a GPU is not.
        jax.config.update("jax_num_cpu_devices", 2)
    files = toy_files(setting.work / "toy")
    cpu = make_mesh_context(MeshConfig(data=1), devices=jax.local_devices(backend="cpu")[-1:])
    places = (cpu, single_device_mesh_context())
    students = data = None
    for name in ("s2",) if setting.toy else STAGES:
        with record.case(f"gradients of {name}"), jax.default_matmul_precision("highest"):
            config = toy_config(files, setting.work / "gradients", (name,))
            if students is None:
                student_files = open_trainable_model(config.model)
                students = [
                    load_trainable_model(student_files, config.model, place, seed=0)
                    for place in places
                ]
                data = load_training_data(config.data, config.validation)
            assert data is not None
            rollout = _rollout(config, name, students[0], data)
            updates = [_update(config, name, student, data, rollout) for student in students]
            _compare(record, name, *updates)
    if places[1].mesh.devices.flat[0].platform == "cpu":
        record.skip("accelerator", "there is none: the CPU was compared with itself")


def _rollout(config: TrainConfig, name: str, student: TrainableModel, data: TrainingData) -> Any:
    """Thoughts and rewards, where the stage has any."""
    if not config.stages[name].draws_thoughts:
        return None
    batches = _rollout_batches(config, name, student, data)
    return batches.rollout(student.initial, 0, Clock())[0]


def _rollout_batches(
    config: TrainConfig, name: str, student: TrainableModel, data: TrainingData
) -> RolloutBatches:
    return RolloutBatches(
        config.stages[name],
        BatchIterator(data.sets, config.stages[name].data),
        data.sets,
        RowBuilder(student.tokenizer, student.preset, data.sets, config.data.lengths),
        student,
        config.data.lengths,
        seed=0,
        interrupt=Interrupt(),
    )


def _update(
    config: TrainConfig,
    name: str,
    student: TrainableModel,
    data: TrainingData,
    rollout: Rollout | None,
) -> dict[str, np.ndarray]:
    """How much each weight moved, by its path."""
    parts = student.parts
    with parts.mesh_context.activate():
        batch = _batch(config, name, student, data, rollout, parts.mesh_context)
        # Donated by the step, and needed again: a copy that is the step's alone.
        trained = jax.tree.map(lambda leaf: leaf + 0, student.initial)
        optimizer = Optimizer(_PLAIN, steps=10)
        objective = stage_objective(config.stages[name])
        state, _, _ = train_step(parts, optimizer, objective, optimizer.start(trained), batch)
    before, after = _numbers(student.initial), _numbers(state.trained)
    return {path: after[path] - before[path] for path in before}


def _batch(
    config: TrainConfig,
    name: str,
    student: TrainableModel,
    data: TrainingData,
    rollout: Rollout | None,
    mesh_context: MeshContext,
) -> StepBatch:
    if rollout is not None:
        return _rollout_batches(config, name, student, data).batch(rollout)
    stage = config.stages[name]
    rows = RowBuilder(student.tokenizer, student.preset, data.sets, config.data.lengths)
    examples = BatchIterator(data.sets, stage.data)
    batches = SupervisedBatches(stage, examples, data.sets, rows, mesh_context)
    return batches.batch(next(examples))


def _numbers(state: nnx.State) -> dict[str, np.ndarray]:
    return {
        jax.tree_util.keystr(path): np.asarray(leaf)
        for path, leaf in jax.tree.leaves_with_path(state)
    }


def _compare(
    record: Record, name: str, expected: dict[str, np.ndarray], found: dict[str, np.ndarray]
) -> None:
    size = np.sqrt(sum(float(np.sum(one**2)) for one in expected.values()))
    # Against the whole update: a weight that hardly moves has no error worth the name.
    worst = max(
        float(np.linalg.norm(found[path] - one)) / max(float(np.linalg.norm(one)), 1e-2 * size)
        for path, one in expected.items()
    )
    record.check(f"{name}: update of the worst weight", worst, _ALLOWED)


if __name__ == "__main__":
    run_part(check)
