"""Rewards of thoughts, from the ranks and scores of the documents that they retrieve.

Documents are ranked among candidates: those of the batch, a pool per query, or the corpus. A
`RetrievalOutcome` holds the ranks and scores of a query's positives among them; each reward is a
small function of outcomes and thoughts, under a name that configs use. `builtin.py` has those that
come with the package; `register_reward` adds your own.
"""

from t1_jax.train.rewards import builtin as builtin  # registers its rewards
from t1_jax.train.rewards.dry_run import dry_run_rewards as dry_run_rewards
from t1_jax.train.rewards.outcome import RetrievalOutcome as RetrievalOutcome
from t1_jax.train.rewards.outcome import joined_outcome as joined_outcome
from t1_jax.train.rewards.outcome import outcome_from_index as outcome_from_index
from t1_jax.train.rewards.outcome import outcome_from_scores as outcome_from_scores
from t1_jax.train.rewards.pools import DocumentStore as DocumentStore
from t1_jax.train.rewards.pools import PoolConfig as PoolConfig
from t1_jax.train.rewards.pools import build_pools as build_pools
from t1_jax.train.rewards.pools import outcome_from_pools as outcome_from_pools
from t1_jax.train.rewards.registry import RewardConfig as RewardConfig
from t1_jax.train.rewards.registry import RewardContext as RewardContext
from t1_jax.train.rewards.registry import RewardFunction as RewardFunction
from t1_jax.train.rewards.registry import RewardOptions as RewardOptions
from t1_jax.train.rewards.registry import Rewards as Rewards
from t1_jax.train.rewards.registry import compute_rewards as compute_rewards
from t1_jax.train.rewards.registry import register_reward as register_reward
from t1_jax.train.rewards.registry import reward_names as reward_names
from t1_jax.train.rewards.trial import RewardTrial as RewardTrial
from t1_jax.train.rewards.trial import trial_data as trial_data
from t1_jax.train.rewards.trial import try_rewards as try_rewards
