"""A training run beside its mathematics: checkpoints, folder, tracking, health, stopping."""

from t1_jax.train.run.agreement import any_process as any_process
from t1_jax.train.run.checkpoints import CheckpointConfig as CheckpointConfig
from t1_jax.train.run.checkpoints import Checkpoints as Checkpoints
from t1_jax.train.run.checkpoints import Restored as Restored
from t1_jax.train.run.leaves import abstract_like as abstract_like
