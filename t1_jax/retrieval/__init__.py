"""Collections, runs, metrics, BM25 and vector indexes. This room knows no model and no prompt.

The collections that can be built here are in `t1_jax.retrieval.datasets`.
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
from t1_jax.retrieval.collection import fault_of_id as fault_of_id
from t1_jax.retrieval.collection import fault_of_text as fault_of_text
from t1_jax.retrieval.flaws import DROPPED_DOCUMENTS as DROPPED_DOCUMENTS
from t1_jax.retrieval.index import KINDS as KINDS
from t1_jax.retrieval.index import CorruptIndexError as CorruptIndexError
from t1_jax.retrieval.index import EmbeddingTable as EmbeddingTable
from t1_jax.retrieval.index import Fingerprint as Fingerprint
from t1_jax.retrieval.index import ForeignIndexError as ForeignIndexError
from t1_jax.retrieval.index import Index as Index
from t1_jax.retrieval.index import Manifest as Manifest
from t1_jax.retrieval.index import NewIndexError as NewIndexError
from t1_jax.retrieval.index import OldIndexError as OldIndexError
from t1_jax.retrieval.index import ScannSettings as ScannSettings
from t1_jax.retrieval.index import SearchResult as SearchResult
from t1_jax.retrieval.index import build_index as build_index
from t1_jax.retrieval.index import check_fingerprint as check_fingerprint
from t1_jax.retrieval.index import index_documents as index_documents
from t1_jax.retrieval.index import load_index as load_index
from t1_jax.retrieval.index import read_manifest as read_manifest
from t1_jax.retrieval.index import require_backend as require_backend
from t1_jax.retrieval.index import unit_vectors as unit_vectors
from t1_jax.retrieval.jsonl import MAX_GRADE as MAX_GRADE
from t1_jax.retrieval.jsonl import Record as Record
from t1_jax.retrieval.jsonl import SourceLocation as SourceLocation
from t1_jax.retrieval.jsonl import read_records as read_records
from t1_jax.retrieval.metrics import DEFAULT_MEASURES as DEFAULT_MEASURES
from t1_jax.retrieval.metrics import RunScores as RunScores
from t1_jax.retrieval.metrics import mean as mean
from t1_jax.retrieval.metrics import score_run as score_run
from t1_jax.retrieval.ranking import rank_documents as rank_documents
from t1_jax.retrieval.text_keys import find_self_documents as find_self_documents
from t1_jax.retrieval.text_keys import normalized_text as normalized_text
from t1_jax.retrieval.text_keys import text_key as text_key
from t1_jax.retrieval.trec import Run as Run
from t1_jax.retrieval.trec import read_qrels as read_qrels
from t1_jax.retrieval.trec import read_run as read_run
from t1_jax.retrieval.trec import trec_ids as trec_ids
from t1_jax.retrieval.trec import write_qrels as write_qrels
from t1_jax.retrieval.trec import write_run as write_run
