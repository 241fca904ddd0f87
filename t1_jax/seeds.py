"""Random seeds: their range, and independent streams that are hashed from a seed.

Seeds are never added or multiplied: two combinations of seed, stage and step could then coincide,
or leave the range of the generator.
"""

import hashlib
import json

import numpy as np
from jaxtyping import UInt32

from t1_jax.errors import ConfigError

MAX_SEED = 2**64 - 1
"""The largest seed; each from 0 on gives other random numbers."""


def check_seed(seed: int, name: str = "seed") -> None:
    """Rejects a seed out of range.

    Raises:
        ConfigError: it is below 0 or above `MAX_SEED`; the error calls it `name`.
    """
    if not 0 <= seed <= MAX_SEED:
        raise ConfigError(f"{name} must be an integer from 0 to 2**64 - 1, got {seed}")


def stable_hash(*parts: object) -> int:
    """64 bits that depend on every part and their order, on every machine and Python version.

    Args:
        parts: what JSON can hold: numbers, strings, None.
    """
    content = json.dumps(parts).encode()
    return int.from_bytes(hashlib.blake2b(content, digest_size=8).digest(), "big")


def key_data(*parts: object) -> UInt32[np.ndarray, "2"]:
    """The same 64 bits as the data of a Threefry key, see `jax.random.wrap_key_data`."""
    return np.array(divmod(stable_hash(*parts), 2**32), np.uint32)
