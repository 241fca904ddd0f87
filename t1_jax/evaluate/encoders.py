"""The protocols of a model under evaluation; `T1` implements them."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from t1_jax.generate import Choices, SamplingParams, Thought


@runtime_checkable
class QueryEncoder(Protocol):
    """Embeds queries, with or without thinking; see `T1.encode_query`."""

    def encode_query(
        self,
        texts: Sequence[str],
        *,
        n: int = 1,
        max_thought_tokens: int | None = None,
        return_thoughts: Literal[True],
        think: bool = True,
        thoughts: Sequence[str] | None = None,
        candidates: Sequence[Sequence[str]] | None = None,
        choices: Choices | None = None,
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        show_progress_bar: bool = False,
    ) -> tuple[Float[np.ndarray, "B D"], list[list[Thought]]]:
        """Unit vectors, and the sampled thoughts of each query."""
        ...

    def known_task(self, task: str | None) -> str | None:
        """The task if `encode_query` has an instruction for it, otherwise None."""
        ...


@runtime_checkable
class Encoder(QueryEncoder, Protocol):
    """Embeds queries and documents; see `T1`."""

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        document_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "C D"]:
        """Unit vectors, in the order of the texts."""
        ...

    def count_truncated(self, documents: Sequence[str]) -> int:
        """Number of texts that are truncated before encoding."""
        ...
