"""Adaptive thinking: when the embedding of a thought no longer changes."""

import numpy as np
from jaxtyping import Float

from t1_jax.generate import RunningThought

PROBE_STEP = 4
"""Tokens between two probes. A probe costs one decoding step of the whole batch."""

SETTLED_COSINE = 0.95
"""Cosine of two probes from which a thought counts as settled; see docs/serving.md."""


class Settling:
    """Follows one thought: it has settled once two probes, `probe_step` tokens apart, agree."""

    def __init__(
        self, settled_cosine: float = SETTLED_COSINE, *, probe_step: int = PROBE_STEP
    ) -> None:
        self._settled_cosine, self._probe_step = settled_cosine, probe_step
        self._probed = 0
        self._last: Float[np.ndarray, " D"] | None = None

    def is_due(self, thought: RunningThought) -> bool:
        """Whether the thought has enough new tokens; the last one is not part of a probe."""
        return len(thought.tokens) - 1 >= self._probed + self._probe_step

    def add(self, thought: RunningThought, vector: Float[np.ndarray, " D"]) -> bool:
        """Takes a probe; returns whether the thought has settled."""
        previous, self._last = self._last, vector
        self._probed = len(thought.tokens) - 1
        return previous is not None and float(previous @ vector) >= self._settled_cosine
