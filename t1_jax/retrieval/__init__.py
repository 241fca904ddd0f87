"""Collections, runs, metrics, BM25 and vector indexes; independent of models and prompts.

`t1_jax.retrieval.datasets` has the collections that this package can build.
"""

from t1_jax.retrieval.beir import load_collection as load_collection
from t1_jax.retrieval.beir import load_documents as load_documents
from t1_jax.retrieval.beir import load_queries as load_queries
from t1_jax.retrieval.beir import save_collection as save_collection
from t1_jax.retrieval.beir import splits_of as splits_of
from t1_jax.retrieval.bm25 import BM25 as BM25
from t1_jax.retrieval.collection import Collection as Collection
from t1_jax.retrieval.collection import Document as Document
from t1_jax.retrieval.collection import Query as Query
from t1_jax.retrieval.collection import SourceLocation as SourceLocation
from t1_jax.retrieval.collection import id_error as id_error
from t1_jax.retrieval.collection import text_error as text_error
from t1_jax.retrieval.dedup import find_self_documents as find_self_documents
from t1_jax.retrieval.dedup import normalize_text as normalize_text
from t1_jax.retrieval.dedup import text_hash as text_hash
from t1_jax.retrieval.folder import FileState as FileState
from t1_jax.retrieval.folder import FolderContents as FolderContents
from t1_jax.retrieval.folder import read_folder as read_folder
from t1_jax.retrieval.fusion import fuse_runs as fuse_runs
from t1_jax.retrieval.index import INDEX_KINDS as INDEX_KINDS
from t1_jax.retrieval.index import CorruptIndexError as CorruptIndexError
from t1_jax.retrieval.index import EmbeddingTable as EmbeddingTable
from t1_jax.retrieval.index import Fingerprint as Fingerprint
from t1_jax.retrieval.index import Index as Index
from t1_jax.retrieval.index import IndexMismatchError as IndexMismatchError
from t1_jax.retrieval.index import IndexVersionError as IndexVersionError
from t1_jax.retrieval.index import Manifest as Manifest
from t1_jax.retrieval.index import ScannSettings as ScannSettings
from t1_jax.retrieval.index import SearchResult as SearchResult
from t1_jax.retrieval.index import build_index as build_index
from t1_jax.retrieval.index import check_fingerprint as check_fingerprint
from t1_jax.retrieval.index import index_documents as index_documents
from t1_jax.retrieval.index import load_index as load_index
from t1_jax.retrieval.index import read_manifest as read_manifest
from t1_jax.retrieval.index import require_backend as require_backend
from t1_jax.retrieval.index import unit_vectors as unit_vectors
from t1_jax.retrieval.jsonl import MAX_RELEVANCE_LABEL as MAX_RELEVANCE_LABEL
from t1_jax.retrieval.jsonl import Record as Record
from t1_jax.retrieval.jsonl import read_records as read_records
from t1_jax.retrieval.metrics import mean as mean
from t1_jax.retrieval.metrics import score_run as score_run
from t1_jax.retrieval.ranking import rank_documents as rank_documents
from t1_jax.retrieval.snippets import Snippet as Snippet
from t1_jax.retrieval.snippets import best_sentence as best_sentence
from t1_jax.retrieval.trec import Run as Run
from t1_jax.retrieval.trec import read_run as read_run
from t1_jax.retrieval.trec import trec_ids as trec_ids
from t1_jax.retrieval.trec import write_run as write_run
from t1_jax.retrieval.validation import DROPPED_DOCUMENTS as DROPPED_DOCUMENTS
