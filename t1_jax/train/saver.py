"""What a run leaves behind: its checkpoints, then the weights that are exported from them."""

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

import jax
from flax import nnx

from t1_jax.config import to_yaml
from t1_jax.errors import RetryableError, T1Error
from t1_jax.train.batches import StageState
from t1_jax.train.config import TrainConfig
from t1_jax.train.exporting import export_weights, training_summary
from t1_jax.train.model import TrainableModel
from t1_jax.train.progress import Progress
from t1_jax.train.run import Checkpoints, RunFolder
from t1_jax.train.sources import TrainingData
from t1_jax.train.stage import Stage

_State = StageState


class RunSaver:
    """Saves a run and exports its weights; nothing is exported before it is saved.

    All processes call its methods together.

    Args:
        config: of the run.
        data: that it learns from.
        student: the model that learns.
        folder: of the run.
        checkpoints: where it is saved.
        identity: of the run, see `TrainableModelFiles.identity`; its checkpoints tell it.

    Attributes:
        progress: of the run, which its checkpoints tell too.
    """

    def __init__(
        self,
        config: TrainConfig,
        data: TrainingData,
        student: TrainableModel,
        folder: RunFolder,
        checkpoints: Checkpoints,
        *,
        identity: Mapping[str, Any],
    ) -> None:
        self.progress = Progress.new(config.health)
        self._config = config
        self._data = data
        self._student = student
        self._folder = folder
        self._checkpoints = checkpoints
        self._identity = identity

    def rescue(
        self,
        stage: Stage,
        state: _State,
        first: int,
        done: int,
        metrics: Mapping[str, float],
        error: Exception,
    ) -> None:
        """Saves the last complete step before an error ends the run, if that is possible."""
        # An error that is not ours may have met one process alone, and saving needs all of them.
        alone = jax.process_count() > 1 and not isinstance(error, T1Error)
        consumed = any(leaf.is_deleted() for leaf in jax.tree.leaves(state))
        if alone or consumed:
            return
        with suppress(OSError, T1Error):  # what ended the run is the error to tell
            self.save(stage, state, first, done, metrics)
            self._checkpoints.wait()
            error.add_note(f"the run is saved at step {first + done}; the same command goes on")

    def retryable(self, error: OSError | T1Error) -> RetryableError:
        """The error that ends the run, and as far as the run is saved."""
        with suppress(OSError, T1Error):
            self._checkpoints.wait()
        saved = self._checkpoints.latest()
        message, hint = str(error), None
        if isinstance(error, T1Error):
            message, hint = error.message, error.hint
        how = "nothing is saved yet" if saved is None else f"the run is saved at step {saved}"
        return RetryableError(f"{message}; {how}", hint=hint or "give the same command again")

    def export_best(self, stage: Stage, state: _State, step: int) -> None:
        """Exports the weights of this step if none were better; call it once they are saved."""
        if self.progress.best is not None and self.progress.best[1] == step:
            scores = self.progress.validations[stage.name]
            self.export(state.train.best_weights, "best", scores)

    def export(self, weights: nnx.State, name: str, scores: Mapping[str, float]) -> None:
        """Exports weights that are saved already.

        Args:
            weights: that learn.
            name: of the folder in the run folder.
            scores: validation measures of these weights.

        Raises:
            T1Error: see `export_weights`; the checkpoint of these weights is named.
        """
        config = self._config
        self._checkpoints.wait()
        account = training_summary(
            config, self._data, self._student.lora, self.progress.steps, scores
        )
        try:
            export_weights(self._student, weights, self._folder.path / name, config, account)
        except T1Error as error:
            raise type(error)(
                f"{name} could not be exported: {error.message}; its weights are in the checkpoint "
                f"of step {self._checkpoints.latest()}",
                hint=f"{error.hint or 'hint that'} (with resume=true if a setting changes); the "
                "same command then exports them",
            ) from error

    def save(
        self,
        stage: Stage,
        state: _State,
        first: int,
        done: int,
        metrics: Mapping[str, float],
        *,
        replace: bool = False,
    ) -> None:
        """Begins to save the run as it is after a step; see `Checkpoints.save`.

        Args:
            stage: that runs.
            state: of the stage.
            first: steps of the stages before it.
            done: steps of the stage.
            metrics: of the last step.
            replace: the checkpoint of this step, if there is one.
        """
        source = stage.state_dict()
        meta = {
            **self._identity,
            **self.progress.meta(),
            "config": to_yaml(self._config),
            "stage": stage.name,
            "first_step": first,
            "stage_step": done,
            "draws": source["position"],
        }
        self._checkpoints.save(
            first + done, state, source["arrays"], meta, metrics, replace=replace
        )
