"""A training run beside its mathematics: checkpoints, folder, tracking, health, stopping."""

from t1_jax.train.run.checkpoints import CheckpointConfig as CheckpointConfig
from t1_jax.train.run.checkpoints import Checkpoints as Checkpoints
from t1_jax.train.run.checkpoints import Restored as Restored
from t1_jax.train.run.console import training_bar as training_bar
from t1_jax.train.run.folder import RunFolder as RunFolder
from t1_jax.train.run.folder import check_data as check_data
from t1_jax.train.run.folder import check_run_folder as check_run_folder
from t1_jax.train.run.folder import versions as versions
from t1_jax.train.run.health import Health as Health
from t1_jax.train.run.health import HealthConfig as HealthConfig
from t1_jax.train.run.health import TrainingAborted as TrainingAborted
from t1_jax.train.run.multihost import any_process as any_process
from t1_jax.train.run.pytree_io import abstract_like as abstract_like
from t1_jax.train.run.stopping import GracefulStop as GracefulStop
from t1_jax.train.run.throughput import Meter as Meter
from t1_jax.train.run.throughput import body_parameters as body_parameters
from t1_jax.train.run.throughput import flops_per_token as flops_per_token
from t1_jax.train.run.throughput import peak_flops as peak_flops
from t1_jax.train.run.throughput import total_peak_flops as total_peak_flops
from t1_jax.train.run.tracking import Tracker as Tracker
from t1_jax.train.run.tracking import TrackingConfig as TrackingConfig
from t1_jax.train.run.tracking import require_trackers as require_trackers
