"""The losses of all stages: pure functions of arrays, no model inside."""

from t1_jax.train.losses.advantages import AdvantageConfig as AdvantageConfig
from t1_jax.train.losses.advantages import group_advantages as group_advantages
from t1_jax.train.losses.advantages import has_variance as has_variance
from t1_jax.train.losses.contrastive import ContrastiveConfig as ContrastiveConfig
from t1_jax.train.losses.contrastive import contrast_metrics as contrast_metrics
from t1_jax.train.losses.contrastive import info_nce as info_nce
from t1_jax.train.losses.contrastive import mean_cosine as mean_cosine
from t1_jax.train.losses.contrastive import triplet as triplet
from t1_jax.train.losses.policy import PolicyConfig as PolicyConfig
from t1_jax.train.losses.policy import PolicyTerms as PolicyTerms
from t1_jax.train.losses.policy import policy_loss as policy_loss
from t1_jax.train.losses.policy import token_weights as token_weights
