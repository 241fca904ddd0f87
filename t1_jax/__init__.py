"""T1 retrieves by thinking. The public names, each imported when it is first asked for."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from t1_jax.config import load_config as load_config
    from t1_jax.errors import T1Error as T1Error
    from t1_jax.generate import SamplingParams as SamplingParams
    from t1_jax.generate import Thought as Thought
    from t1_jax.retrieval import BM25 as BM25
    from t1_jax.retrieval import Collection as Collection
    from t1_jax.retrieval import Document as Document
    from t1_jax.retrieval import Query as Query
    from t1_jax.retrieval import build_index as build_index
    from t1_jax.retrieval import load_collection as load_collection
    from t1_jax.retrieval import load_index as load_index
    from t1_jax.retrieval import read_folder as read_folder
    from t1_jax.retrieval import score_run as score_run
    from t1_jax.retriever import T1 as T1
    from t1_jax.retriever import RetrieverOptions as RetrieverOptions
    from t1_jax.retriever import Searcher as Searcher
    from t1_jax.text import PromptPreset as PromptPreset
    from t1_jax.text import load_preset as load_preset

__version__ = "0.1.0"

# Where each public name lives. `import t1_jax` itself imports none of these packages.
_HOME = {
    "BM25": "t1_jax.retrieval",
    "Collection": "t1_jax.retrieval",
    "Document": "t1_jax.retrieval",
    "PromptPreset": "t1_jax.text",
    "Query": "t1_jax.retrieval",
    "RetrieverOptions": "t1_jax.retriever",
    "SamplingParams": "t1_jax.generate",
    "Searcher": "t1_jax.retriever",
    "T1": "t1_jax.retriever",
    "T1Error": "t1_jax.errors",
    "Thought": "t1_jax.generate",
    "build_index": "t1_jax.retrieval",
    "load_collection": "t1_jax.retrieval",
    "load_config": "t1_jax.config",
    "load_index": "t1_jax.retrieval",
    "load_preset": "t1_jax.text",
    "read_folder": "t1_jax.retrieval",
    "score_run": "t1_jax.retrieval",
}

__all__ = [
    "BM25",
    "T1",
    "Collection",
    "Document",
    "PromptPreset",
    "Query",
    "RetrieverOptions",
    "SamplingParams",
    "Searcher",
    "T1Error",
    "Thought",
    "__version__",
    "build_index",
    "load_collection",
    "load_config",
    "load_index",
    "load_preset",
    "read_folder",
    "score_run",
]


def __getattr__(name: str) -> object:
    if name not in _HOME:
        raise AttributeError(f"module 't1_jax' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
