"""Training in three stages, from records to weights."""

from t1_jax.train.config import StageConfig as StageConfig
from t1_jax.train.config import TrainConfig as TrainConfig
from t1_jax.train.config import ValidationConfig as ValidationConfig
from t1_jax.train.estimate import Speed as Speed
from t1_jax.train.estimate import fitted_steps as fitted_steps
from t1_jax.train.estimate import measure_speed as measure_speed
from t1_jax.train.mining import MiningConfig as MiningConfig
from t1_jax.train.mining import Ranking as Ranking
from t1_jax.train.mining import mine_negatives as mine_negatives
from t1_jax.train.mining import rank_bm25 as rank_bm25
from t1_jax.train.mining import rank_dense as rank_dense
from t1_jax.train.recipe import BaseModel as BaseModel
from t1_jax.train.recipe import Device as Device
from t1_jax.train.recipe import Plan as Plan
from t1_jax.train.recipe import choose_recipe as choose_recipe
from t1_jax.train.recipe import config_of as config_of
from t1_jax.train.recipe import device_of_jax as device_of_jax
from t1_jax.train.run import train as train
from t1_jax.train.sources import held_out_splits as held_out_splits
from t1_jax.train.sources import validation_subset as validation_subset
from t1_jax.train.trainer import TrainResult as TrainResult
