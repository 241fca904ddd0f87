"""Floor 4: the three stages, from records to weights."""

from t1_jax.train.config import StageConfig as StageConfig
from t1_jax.train.config import TrainConfig as TrainConfig
from t1_jax.train.curriculum import TrainResult as TrainResult
from t1_jax.train.loop import train as train
