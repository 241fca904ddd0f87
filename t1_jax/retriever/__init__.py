"""Layer 3: T1, the retriever."""

from t1_jax.retriever.canary import EQUAL_COSINE as EQUAL_COSINE
from t1_jax.retriever.canary import lowest_canary_cosine as lowest_canary_cosine
from t1_jax.retriever.loading import load_decoder as load_decoder
from t1_jax.retriever.loading import save_adapter as save_adapter
from t1_jax.retriever.opening import OpenedModel as OpenedModel
from t1_jax.retriever.opening import RetrieverOptions as RetrieverOptions
from t1_jax.retriever.opening import check_savable as check_savable
from t1_jax.retriever.opening import open_model as open_model
from t1_jax.retriever.resolve import Provenance as Provenance
from t1_jax.retriever.resolve import ResolvedModel as ResolvedModel
from t1_jax.retriever.resolve import open_base as open_base
from t1_jax.retriever.resolve import rebase_adapter as rebase_adapter
from t1_jax.retriever.resolve import resolve_model as resolve_model
from t1_jax.retriever.t1 import T1 as T1
