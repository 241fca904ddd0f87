"""Infrastructure of a training run: checkpoints, folder, tracking, health, early stops."""

from t1_jax.train.infra.bucket import bucket_of as bucket_of
from t1_jax.train.infra.bucket import checkpoint_folder as checkpoint_folder
from t1_jax.train.infra.bucket import download_run as download_run
from t1_jax.train.infra.bucket import local_folder as local_folder
from t1_jax.train.infra.checkpoints import CheckpointConfig as CheckpointConfig
from t1_jax.train.infra.checkpoints import Checkpoints as Checkpoints
from t1_jax.train.infra.checkpoints import DamagedCheckpoint as DamagedCheckpoint
from t1_jax.train.infra.console import training_bar as training_bar
from t1_jax.train.infra.folder import RunFolder as RunFolder
from t1_jax.train.infra.folder import check_recorded_data as check_recorded_data
from t1_jax.train.infra.folder import check_run_folder as check_run_folder
from t1_jax.train.infra.folder import versions as versions
from t1_jax.train.infra.health import Health as Health
from t1_jax.train.infra.health import HealthConfig as HealthConfig
from t1_jax.train.infra.health import TrainingAborted as TrainingAborted
from t1_jax.train.infra.pytree_io import abstract_like as abstract_like
from t1_jax.train.infra.stopping import GracefulStop as GracefulStop
from t1_jax.train.infra.stopping import any_process as any_process
from t1_jax.train.infra.throughput import Clock as Clock
from t1_jax.train.infra.throughput import Meter as Meter
from t1_jax.train.infra.tracking import Tracker as Tracker
from t1_jax.train.infra.tracking import TrackingConfig as TrackingConfig
from t1_jax.train.infra.tracking import require_trackers as require_trackers
from t1_jax.train.infra.watchdog import Watchdog as Watchdog
