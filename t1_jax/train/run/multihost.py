"""What all processes of a run must decide alike, though each sees its own clock and signals."""

import jax
import numpy as np
from jax.experimental import multihost_utils


def any_process(flag: bool) -> bool:
    """Whether the flag is set on at least one process; every process must call it together."""
    if jax.process_count() == 1:
        return flag
    return bool(np.any(multihost_utils.process_allgather(np.asarray(flag))))
