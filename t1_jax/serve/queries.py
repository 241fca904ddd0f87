"""How a query is thought about, and what an embedded text is."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

from t1_jax.generate import Thought


@dataclass(frozen=True, kw_only=True)
class ThinkOptions:
    """How a query is thought about; see `schemas.Thinking`.

    Attributes:
        max_tokens: most tokens of a thought; 0 does not think.
        stop_when_settled: whether a thought ends once its embedding no longer changes.
        n: number of thoughts.
        seed: of several thoughts.
        prefix: how each thought begins.
        deadline: time of `time.monotonic` at which the request must end.
    """

    max_tokens: int
    stop_when_settled: bool = False
    n: int = 1
    seed: int = 0
    prefix: str | None = None
    deadline: float


@dataclass(frozen=True, kw_only=True, eq=False)
class QueryResult:
    """An embedded query.

    Attributes:
        vector: the normalized mean of the thoughts' embeddings.
        vectors: of each thought; one row without a thought.
        thoughts: sampled thoughts; empty without.
        prompt_tokens: tokens of the prompt.
        truncated: whether the query was truncated.
        cached: whether nothing was computed.
    """

    vector: Float[np.ndarray, " D"]
    vectors: Float[np.ndarray, "G D"]
    thoughts: Sequence[Thought]
    prompt_tokens: int
    truncated: bool
    cached: bool = False

    @property
    def thought_tokens(self) -> int:
        """Tokens that were sampled, `<emb_token>` not counted."""
        return sum(thought.reasoning_tokens for thought in self.thoughts)

    @property
    def spread(self) -> float | None:
        """1 - |mean of the thoughts' unit vectors|, from 0 (equal) to 1; None for one thought.

        Circular variance of directional statistics (Mardia and Jupp, 2000).
        """
        if len(self.thoughts) < 2:
            return None
        return float(1 - np.linalg.norm(np.mean(self.vectors, axis=0)))


@dataclass(frozen=True, kw_only=True, eq=False)
class DocumentResults:
    """Embedded documents: vectors [B, D], tokens and whether it was truncated for each."""

    vectors: Float[np.ndarray, "B D"]
    tokens: Sequence[int]
    truncated: Sequence[bool]
