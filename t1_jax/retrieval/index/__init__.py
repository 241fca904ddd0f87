"""Vector indexes: one protocol, four back ends, one format on disk."""

from t1_jax.retrieval.index.build import INDEX_KINDS as INDEX_KINDS
from t1_jax.retrieval.index.build import build_from_table as build_from_table
from t1_jax.retrieval.index.build import build_index as build_index
from t1_jax.retrieval.index.build import load_index as load_index
from t1_jax.retrieval.index.build import require_backend as require_backend
from t1_jax.retrieval.index.embedding_table import EmbeddingTable as EmbeddingTable
from t1_jax.retrieval.index.embedding_table import RowLists as RowLists
from t1_jax.retrieval.index.embedding_table import unit_vectors as unit_vectors
from t1_jax.retrieval.index.faiss_index import FaissSettings as FaissSettings
from t1_jax.retrieval.index.precision import STORED_DTYPES as STORED_DTYPES
from t1_jax.retrieval.index.precision import StoredPrecision as StoredPrecision
from t1_jax.retrieval.index.protocol import Index as Index
from t1_jax.retrieval.index.protocol import SearchResult as SearchResult
from t1_jax.retrieval.index.scann_index import ScannSettings as ScannSettings
from t1_jax.retrieval.index.store import CorruptIndexError as CorruptIndexError
from t1_jax.retrieval.index.store import Fingerprint as Fingerprint
from t1_jax.retrieval.index.store import IndexMismatchError as IndexMismatchError
from t1_jax.retrieval.index.store import IndexVersionError as IndexVersionError
from t1_jax.retrieval.index.store import Manifest as Manifest
from t1_jax.retrieval.index.store import check_fingerprint as check_fingerprint
from t1_jax.retrieval.index.store import index_documents as index_documents
from t1_jax.retrieval.index.store import read_documents as read_documents
from t1_jax.retrieval.index.store import read_manifest as read_manifest
from t1_jax.retrieval.index.store import verify_index as verify_index
from t1_jax.retrieval.index.store import write_documents as write_documents
from t1_jax.retrieval.index.store import write_exact_index as write_exact_index
