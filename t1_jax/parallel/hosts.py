"""Arrays on their way between hosts and the devices of all of them.

Every process of a job holds the same NumPy arrays and makes the same calls in the same order.
"""

from collections.abc import Iterable

import jax
import numpy as np
from jax.experimental import multihost_utils


def host_to_global(array: np.ndarray, sharding: jax.NamedSharding) -> jax.Array:
    """An array that every process holds whole, laid over the devices of all processes."""
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def global_to_host(array: jax.Array) -> np.ndarray:
    """All of an array, wherever its parts lie, on every process."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def all_global_to_host(arrays: Iterable[jax.Array]) -> list[np.ndarray]:
    """`whole` of several arrays, whose copies to this host run beside one another."""
    arrays = list(arrays)
    for array in arrays:
        if array.is_fully_addressable:
            array.copy_to_host_async()
    return [global_to_host(array) for array in arrays]
