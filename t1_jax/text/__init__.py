"""Prompts and token batches: cut without losing `<emb_token>`, and grouped into length buckets."""

from t1_jax.text.batches import BucketConfig as BucketConfig
from t1_jax.text.batches import TokenBatch as TokenBatch
from t1_jax.text.batches import in_item_order as in_item_order
from t1_jax.text.batches import padding_share as padding_share
from t1_jax.text.batches import token_batches as token_batches
from t1_jax.text.presets import PromptPreset as PromptPreset
from t1_jax.text.presets import load_preset as load_preset
from t1_jax.text.presets import preset_names as preset_names
from t1_jax.text.prompts import encode_documents as encode_documents
from t1_jax.text.prompts import encode_queries as encode_queries
from t1_jax.text.tokenizer import BoundTemplate as BoundTemplate
from t1_jax.text.tokenizer import PromptTokens as PromptTokens
from t1_jax.text.tokenizer import T1Tokenizer as T1Tokenizer
