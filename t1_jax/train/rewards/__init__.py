"""What a thought earns: rewards from the ranks and scores of the documents it brings up.

The documents that rank are candidates: those of the batch, a pool for each query, or the corpus. A
`RetrievalOutcome` says where a query's positives stand among them; each reward is a small function
of standings and thoughts, under a name that configs use. Users add their own, see
`register_reward`.
"""

from t1_jax.train.rewards.context import RewardContext as RewardContext
from t1_jax.train.rewards.context import RewardOptions as RewardOptions
from t1_jax.train.rewards.dry_run import rehearse as rehearse
from t1_jax.train.rewards.outcome import RetrievalOutcome as RetrievalOutcome
from t1_jax.train.rewards.outcome import outcome_from_index as outcome_from_index
from t1_jax.train.rewards.outcome import outcome_from_scores as outcome_from_scores
from t1_jax.train.rewards.pools import DocumentStore as DocumentStore
from t1_jax.train.rewards.pools import DocumentVersion as DocumentVersion
from t1_jax.train.rewards.pools import PoolConfig as PoolConfig
from t1_jax.train.rewards.pools import build_pools as build_pools
from t1_jax.train.rewards.pools import outcome_from_pools as outcome_from_pools
from t1_jax.train.rewards.registry import RewardConfig as RewardConfig
from t1_jax.train.rewards.registry import RewardFunction as RewardFunction
from t1_jax.train.rewards.registry import Rewards as Rewards
from t1_jax.train.rewards.registry import compute_rewards as compute_rewards
from t1_jax.train.rewards.registry import register_reward as register_reward
from t1_jax.train.rewards.registry import reward_names as reward_names
from t1_jax.train.rewards.terms import copying_reward as copying_reward
from t1_jax.train.rewards.terms import cosine_dcg_reward as cosine_dcg_reward
from t1_jax.train.rewards.terms import format_reward as format_reward
from t1_jax.train.rewards.terms import gain_reward as gain_reward
from t1_jax.train.rewards.terms import gap_reward as gap_reward
from t1_jax.train.rewards.terms import length_reward as length_reward
from t1_jax.train.rewards.terms import log_rank_reward as log_rank_reward
from t1_jax.train.rewards.terms import ndcg_reward as ndcg_reward
from t1_jax.train.rewards.terms import repetition_reward as repetition_reward
