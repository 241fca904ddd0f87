"""A cache of document embeddings on disk, so that a second run does not encode them again."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from t1_jax.errors import IndexContractError
from t1_jax.retrieval import build_index, load_index
from t1_jax.retriever import digest, document_fingerprint

if TYPE_CHECKING:
    from t1_jax.retriever import T1


class CachedDocumentEncoder:
    """A T1 whose document embeddings are stored as indexes, one for each fingerprint.

    Another model, prompt, dtype or text has another fingerprint, so a stale entry is never read.
    """

    def __init__(self, model: "T1", folder: Path) -> None:
        self._model, self._folder = model, folder

    def encode_query(self, texts: Sequence[str], **options: Any) -> Any:
        """See `T1.encode_query`."""
        return self._model.encode_query(texts, **options)

    def score_thoughts(
        self, texts: Sequence[str], thoughts: Sequence[Sequence[str]], **options: Any
    ) -> Any:
        """See `T1.score_thoughts`."""
        return self._model.score_thoughts(texts, thoughts, **options)

    def known_task(self, task: str | None) -> str | None:
        """See `T1.known_task`."""
        return self._model.known_task(task)

    def count_truncated(self, documents: Sequence[str]) -> int:
        """See `T1.count_truncated`."""
        return self._model.count_truncated(documents)

    def encode_document(
        self,
        texts: Sequence[str],
        *,
        document_ids: Sequence[str] | None = None,
        show_progress_bar: bool = False,
    ) -> Float[np.ndarray, "C D"]:
        """See `T1.encode_document`."""
        ids = list(document_ids or map(str, range(len(texts))))
        fingerprint = document_fingerprint(self._model, digest(ids, list(texts)))
        key = digest(fingerprint.encoder, fingerprint.prompt, fingerprint.data)
        folder = self._folder / key[:32]
        with suppress(IndexContractError):  # missing or damaged
            return np.array(load_index(folder, fingerprint, kind="numpy").vectors)
        vectors = self._model.encode_document(
            texts, document_ids=ids, show_progress_bar=show_progress_bar
        )
        build_index("numpy", ids, vectors).save(folder, fingerprint, overwrite=True)
        return vectors
