"""Layer 5: the HTTP service; needs the extra `serve`."""

from t1_jax.serve.app import build_app as build_app
from t1_jax.serve.config import ServerConfig as ServerConfig
from t1_jax.serve.config import read_api_keys as read_api_keys
from t1_jax.serve.metrics import Metrics as Metrics
from t1_jax.serve.ranking import Corpus as Corpus
from t1_jax.serve.server import Server as Server
from t1_jax.serve.service import Service as Service
from t1_jax.serve.state import Load as Load
