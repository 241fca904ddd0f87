"""Layouts of collections in a folder: BEIR, TREC, Tevatron and FlagEmbedding."""

from t1_jax.retrieval.layouts.beir import QRELS_HEADER as QRELS_HEADER
from t1_jax.retrieval.layouts.layout import Layout as Layout
from t1_jax.retrieval.layouts.layout import Split as Split
from t1_jax.retrieval.layouts.recognize import find_layout as find_layout
from t1_jax.retrieval.layouts.recognize import recognize_layout as recognize_layout
from t1_jax.retrieval.layouts.records import Entry as Entry
from t1_jax.retrieval.layouts.records import Exclusion as Exclusion
from t1_jax.retrieval.layouts.records import Label as Label
from t1_jax.retrieval.layouts.records import RecordFile as RecordFile
from t1_jax.retrieval.layouts.text_files import document_entry as document_entry
from t1_jax.retrieval.layouts.text_files import document_file as document_file
from t1_jax.retrieval.layouts.text_files import query_entry as query_entry
from t1_jax.retrieval.layouts.text_files import query_file as query_file
