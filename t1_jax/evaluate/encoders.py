"""What an evaluation asks of a model; `T1` has it, and so has a test's few lines."""

from collections.abc import Sequence
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Float

from t1_jax.generate import SamplingParams, Thought


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
        task: str | None = None,
        instruction: str | None = None,
        query_ids: Sequence[str] | None = None,
        sampling: SamplingParams | None = None,
        show_progress_bar: bool = False,
    ) -> tuple[Float[np.ndarray, "B D"], list[list[Thought]]]:
        """Unit vectors, and for each query the thoughts drawn (none where none were drawn)."""
        ...


@runtime_checkable
class DocumentEncoder(Protocol):
    """Embeds documents; see `T1.encode_document`."""

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
        """How many of the texts are cut before they are read."""
        ...


@runtime_checkable
class Encoder(QueryEncoder, DocumentEncoder, Protocol):
    """Both sides of a retriever."""
