"""Configuration: frozen dataclasses, from YAML and `key.sub=value`, and back.

A config is a frozen, keyword-only dataclass whose fields are numbers, texts, paths, `Literal`s,
optional ones, tuples or dicts of these, further configs, and dicts of configs by name. It checks
itself in `__post_init__`, raising `ConfigError`, and explains each field under `Attributes:` in
its docstring.
"""

from t1_jax.config.describe import FieldDoc as FieldDoc
from t1_jax.config.describe import describe as describe
from t1_jax.config.describe import undocumented_fields as undocumented_fields
from t1_jax.config.load import load_config as load_config
from t1_jax.config.save import save_config as save_config
from t1_jax.config.save import to_yaml as to_yaml
from t1_jax.config.suggest import suggestion as suggestion
