"""Where thoughts come from before the model can think: a collection's structure, or a teacher."""

from t1_jax.train.thoughts.cold import cached_source as cached_source
from t1_jax.train.thoughts.cold import cold_records as cold_records
from t1_jax.train.thoughts.cold import document_pairs as document_pairs
