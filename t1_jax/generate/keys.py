"""Random streams that belong to a thought, not to the batch in which it is drawn."""

import numpy as np
from jaxtyping import UInt32

from t1_jax.seeds import key_data


def thought_keys(seed: int, query_id: str, samples: int) -> UInt32[np.ndarray, "G 2"]:
    """Threefry key data of samples 0 .. G-1 of a query: a hash of seed, id and number alone."""
    return np.stack([key_data(seed, query_id, sample) for sample in range(samples)])
