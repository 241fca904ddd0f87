"""Weights and tokenisers in and out: Hugging Face folders, GGUF files, packages and the hub."""

from t1_jax.hub.assets import MODELS as MODELS
from t1_jax.hub.assets import ModelAsset as ModelAsset
from t1_jax.hub.card import CardFacts as CardFacts
from t1_jax.hub.checkpoint import Checkpoint as Checkpoint
from t1_jax.hub.checkpoint import open_checkpoint as open_checkpoint
from t1_jax.hub.collections import known_collection as known_collection
from t1_jax.hub.collections import open_collection as open_collection
from t1_jax.hub.collections import pull_collection as pull_collection
from t1_jax.hub.emb_token import EmbToken as EmbToken
from t1_jax.hub.emb_token import EmbTokenMode as EmbTokenMode
from t1_jax.hub.emb_token import give_emb_token as give_emb_token
from t1_jax.hub.export import ExportOptions as ExportOptions
from t1_jax.hub.export import export_folder as export_folder
from t1_jax.hub.hf_config import decoder_config_from_hf as decoder_config_from_hf
from t1_jax.hub.hf_config import hf_config_from_decoder as hf_config_from_decoder
from t1_jax.hub.load import init_emb_row as init_emb_row
from t1_jax.hub.load import load_decoder_state as load_decoder_state
from t1_jax.hub.metadata import T1Metadata as T1Metadata
from t1_jax.hub.pull import cache_folder as cache_folder
from t1_jax.hub.pull import locate_model as locate_model
from t1_jax.hub.pull import pull_model as pull_model
from t1_jax.hub.pull import pull_package as pull_package
from t1_jax.hub.sentence_transformers import DocumentSide as DocumentSide
from t1_jax.hub.sources import TensorSource as TensorSource
from t1_jax.hub.tokeniser import EMB_TOKEN as EMB_TOKEN
from t1_jax.hub.tokeniser import Tokeniser as Tokeniser
