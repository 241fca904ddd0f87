"""Layer 1: the decoder."""

from t1_jax.model.attention import SPLASH_MULTIPLE as SPLASH_MULTIPLE
from t1_jax.model.cache import KVCache as KVCache
from t1_jax.model.cache import PrefixCache as PrefixCache
from t1_jax.model.cache import SuffixCache as SuffixCache
from t1_jax.model.config import MAX_LAYERS as MAX_LAYERS
from t1_jax.model.config import DecoderConfig as DecoderConfig
from t1_jax.model.config import RopeConfig as RopeConfig
from t1_jax.model.decoder import Decoder as Decoder
from t1_jax.model.decoder import VocabMask as VocabMask
from t1_jax.model.emb_row import fill_emb_row as fill_emb_row
from t1_jax.model.emb_row import init_emb_row as init_emb_row
from t1_jax.model.lora import add_lora as add_lora
from t1_jax.model.lora import lora_state as lora_state
from t1_jax.model.lora import merge_lora as merge_lora
from t1_jax.model.lora import trainable_filter as trainable_filter
from t1_jax.model.lora_modules import LORA_TARGETS as LORA_TARGETS
from t1_jax.model.lora_modules import LoraConfig as LoraConfig
from t1_jax.model.lora_modules import LoraParam as LoraParam
from t1_jax.model.mask import AttentionMask as AttentionMask
from t1_jax.model.options import ModelOptions as ModelOptions
from t1_jax.model.pooling import pool_embeddings as pool_embeddings
from t1_jax.model.pooling import to_embeddings as to_embeddings
from t1_jax.model.rotary import inverse_frequencies as inverse_frequencies
