"""Collections that are built from Python packages, and their raw records."""

from t1_jax.retrieval.datasets.cwe import Consequence as Consequence
from t1_jax.retrieval.datasets.cwe import ObservedExample as ObservedExample
from t1_jax.retrieval.datasets.cwe import Weakness as Weakness
from t1_jax.retrieval.datasets.cwe import build_cwe as build_cwe
from t1_jax.retrieval.datasets.cwe import parse_cwe as parse_cwe
from t1_jax.retrieval.datasets.registry import DATASETS as DATASETS
from t1_jax.retrieval.datasets.registry import DatasetSource as DatasetSource
from t1_jax.retrieval.datasets.registry import build_dataset as build_dataset
from t1_jax.retrieval.datasets.registry import build_from_member as build_from_member
from t1_jax.retrieval.datasets.registry import dataset_source as dataset_source
from t1_jax.retrieval.datasets.registry import open_member as open_member
from t1_jax.retrieval.datasets.registry import ruff_rules_text as ruff_rules_text
from t1_jax.retrieval.datasets.ruff_rules import Rule as Rule
from t1_jax.retrieval.datasets.ruff_rules import build_ruff as build_ruff
from t1_jax.retrieval.datasets.ruff_rules import parse_ruff as parse_ruff
from t1_jax.retrieval.datasets.ruff_rules import ruff_rules_json as ruff_rules_json
from t1_jax.retrieval.datasets.splits import group_keys as group_keys
from t1_jax.retrieval.datasets.splits import split_of as split_of
