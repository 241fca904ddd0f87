"""Floor 3: T1 itself."""

from t1_jax.retriever.loading import load_decoder as load_decoder
from t1_jax.retriever.loading import save_adapter as save_adapter
from t1_jax.retriever.opening import OpenedModel as OpenedModel
from t1_jax.retriever.opening import check_savable as check_savable
from t1_jax.retriever.opening import open_model as open_model
from t1_jax.retriever.options import RetrieverOptions as RetrieverOptions
from t1_jax.retriever.origin import Origin as Origin
from t1_jax.retriever.settling import Settled as Settled
from t1_jax.retriever.settling import open_base as open_base
from t1_jax.retriever.settling import rebase_adapter as rebase_adapter
from t1_jax.retriever.settling import settle as settle
from t1_jax.retriever.t1 import T1 as T1
