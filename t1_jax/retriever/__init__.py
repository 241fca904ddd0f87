"""Layer 3: T1, the retriever."""

from t1_jax.retriever.corpus_encoding import EncodedCorpus as EncodedCorpus
from t1_jax.retriever.corpus_encoding import encode_corpus as encode_corpus
from t1_jax.retriever.encoding import digest as digest
from t1_jax.retriever.encoding import document_fingerprint as document_fingerprint
from t1_jax.retriever.encoding import encoding_record as encoding_record
from t1_jax.retriever.folder_index import StoredIndex as StoredIndex
from t1_jax.retriever.folder_index import default_index_folder as default_index_folder
from t1_jax.retriever.folder_index import read_stored_index as read_stored_index
from t1_jax.retriever.folder_index import update_index as update_index
from t1_jax.retriever.loading import load_decoder as load_decoder
from t1_jax.retriever.loading import save_adapter as save_adapter
from t1_jax.retriever.opening import DEFAULT_MODEL as DEFAULT_MODEL
from t1_jax.retriever.opening import OpenedModel as OpenedModel
from t1_jax.retriever.opening import RetrieverOptions as RetrieverOptions
from t1_jax.retriever.opening import check_savable as check_savable
from t1_jax.retriever.opening import open_model as open_model
from t1_jax.retriever.resolve import Provenance as Provenance
from t1_jax.retriever.resolve import ResolvedModel as ResolvedModel
from t1_jax.retriever.resolve import open_base as open_base
from t1_jax.retriever.resolve import rebase_adapter as rebase_adapter
from t1_jax.retriever.resolve import resolve_model as resolve_model
from t1_jax.retriever.searcher import Hit as Hit
from t1_jax.retriever.searcher import Searcher as Searcher
from t1_jax.retriever.searcher import SearchResults as SearchResults
from t1_jax.retriever.t1 import T1 as T1
