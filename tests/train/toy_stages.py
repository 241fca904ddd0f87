"""One stage of a toy run, without the loop around it."""

from pathlib import Path
from typing import Any

from flax import nnx

from t1_jax.interrupt import Interrupt
from t1_jax.parallel import single_device_mesh_context
from t1_jax.train import TrainConfig
from t1_jax.train.batches import StageState
from t1_jax.train.model import TrainableModel, load_trainable_model, open_trainable_model
from t1_jax.train.row_builder import RowBuilder
from t1_jax.train.sources import TrainingData, load_training_data
from t1_jax.train.stage import Stage
from tests.train.toy_runs import toy_config
from tests.train.toy_steps import copied

LORA = {"rank": 2, "alpha": 4.0, "targets": ["q", "v"]}


class ToyStages:
    """A student and its data; each stage starts from the same weights."""

    def __init__(self, root: Path, **fields: Any) -> None:
        self.root, self.fields = root, fields
        config = self.config({"losses": {"sft": 1}, "steps": 1})
        self.mesh_context = single_device_mesh_context()
        self.student: TrainableModel = load_trainable_model(
            open_trainable_model(config.model), config.model, self.mesh_context, seed=0
        )
        self.data: TrainingData = load_training_data(config.data, config.validation)
        self.rows = RowBuilder(
            self.student.tokenizer, self.student.preset, self.data.sets, config.data.lengths
        )

    def config(self, stage: dict[str, Any], **fields: Any) -> TrainConfig:
        return toy_config(self.root, {"it": stage}, **self.fields, **fields)

    def stage(
        self, stage: dict[str, Any], interrupt: Interrupt | None = None, **fields: Any
    ) -> Stage:
        return Stage(
            "it",
            self.config(stage, **fields),
            self.student,
            self.data.sets,
            self.rows,
            interrupt or Interrupt(),
        )

    def weights(self) -> nnx.State:
        return copied(self.student.initial)

    def run(self, stage: Stage, steps: int) -> tuple[StageState, list[dict[str, float]]]:
        """The state after so many steps, and the metrics of each."""
        found = []
        with self.mesh_context.activate():
            state = stage.start(self.weights())
            for number in range(steps):
                state, report = stage.step(state, number)
                found.append(report.metrics)
        return state, found
