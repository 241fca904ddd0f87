"""Document vectors that were made before are read back, not made again."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float

from t1_jax.cli.model import digest, document_fingerprint
from t1_jax.errors import IndexContractError
from t1_jax.retrieval import Fingerprint, build_index, load_index

if TYPE_CHECKING:
    from t1_jax.retriever import T1


class RememberedDocuments:
    """A T1 that keeps each set of document vectors as an index, under its fingerprint.

    Another model, prompt, dtype or text has another fingerprint, so nothing stale is ever read.
    """

    def __init__(self, model: "T1", folder: Path | None) -> None:
        """Wraps a model.

        Args:
            model: makes what is not there yet.
            folder: where vectors are kept; None remembers nothing.
        """
        self._model = model
        self._folder = folder

    def encode_query(self, texts: Sequence[str], **how: Any) -> Any:
        """See `T1.encode_query`."""
        return self._model.encode_query(texts, **how)

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
        folder = self._place(fingerprint)
        if folder is not None:
            with suppress(IndexContractError):  # not there yet, or damaged
                return np.array(load_index(folder, fingerprint, kind="numpy").vectors)
        vectors = self._model.encode_document(
            texts, document_ids=ids, show_progress_bar=show_progress_bar
        )
        if folder is not None:
            build_index("numpy", ids, vectors).save(folder, fingerprint, overwrite=True)
        return vectors

    def remembers(self, ids: Sequence[str], texts: Sequence[str]) -> bool:
        """Whether the vectors of these documents are there."""
        fingerprint = document_fingerprint(self._model, digest(list(ids), list(texts)))
        folder = self._place(fingerprint)
        return folder is not None and folder.exists()

    def _place(self, fingerprint: Fingerprint) -> Path | None:
        name = digest(fingerprint.encoder, fingerprint.prompt, fingerprint.data)
        return None if self._folder is None else self._folder / name[:32]
