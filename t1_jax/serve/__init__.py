"""Layer 5: the HTTP service; needs the extra `serve`."""

from t1_jax.serve.config import ServerConfig as ServerConfig
from t1_jax.serve.config import read_api_keys as read_api_keys
