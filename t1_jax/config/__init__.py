"""Configuration: frozen dataclasses, read from YAML and `key.sub=value`, and written as YAML.

A config is a frozen, keyword-only dataclass. Its fields are numbers, strings, paths, `Literal`s,
optional values, tuples and dicts of these, nested configs, and dicts of configs by name. It checks
its values in `__post_init__`, raising `ConfigError`, and documents each field under `Attributes:`.
"""

from t1_jax.config.describe import FieldDoc as FieldDoc
from t1_jax.config.describe import describe as describe
from t1_jax.config.describe import undocumented_fields as undocumented_fields
from t1_jax.config.load import load_config as load_config
from t1_jax.config.load import save_config as save_config
from t1_jax.config.load import to_yaml as to_yaml
from t1_jax.config.suggest import suggestion as suggestion
