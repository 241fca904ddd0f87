"""Copies of an index in the formats and engines that people run."""

from t1_jax.retrieval.export.run import EXPORT_FORMATS as EXPORT_FORMATS
from t1_jax.retrieval.export.run import export_index as export_index
