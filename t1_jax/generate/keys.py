"""Random streams that belong to a thought, not to the batch in which it is drawn."""

import hashlib

import jax
import numpy as np
from jaxtyping import UInt32


def thought_keys(seed: int, query_id: str, samples: int) -> UInt32[np.ndarray, "G 2"]:
    """Key data of samples 0 .. G-1 of a query: a function of seed, id and number alone."""
    digest = hashlib.sha256(query_id.encode()).digest()
    key = jax.random.key(seed, impl="threefry2x32")
    for word in np.frombuffer(digest[:8], dtype=np.uint32):
        key = jax.random.fold_in(key, word)
    keys = jax.vmap(lambda sample: jax.random.fold_in(key, sample))(np.arange(samples))
    return np.asarray(jax.random.key_data(keys))
