"""Floor 1: the decoder."""

from t1_jax.model.cache import LayerCache as LayerCache
from t1_jax.model.cache import PrefixCache as PrefixCache
from t1_jax.model.cache import SuffixCache as SuffixCache
from t1_jax.model.config import DecoderConfig as DecoderConfig
from t1_jax.model.config import RopeConfig as RopeConfig
from t1_jax.model.decoder import Decoder as Decoder
from t1_jax.model.decoder import TokenMask as TokenMask
from t1_jax.model.decoder import unit as unit
from t1_jax.model.options import ModelOptions as ModelOptions
