"""Canary texts: whether a model gives the embeddings that an index stores, whatever its files."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from t1_jax.retrieval import Document, EmbeddingTable, Fingerprint, Manifest

if TYPE_CHECKING:
    from t1_jax.retriever.t1 import T1

NUM_CANARIES = 8
EQUAL_COSINE = 0.999
"""Rounding in bfloat16 stays above: an adapter that was merged and exported has 0.9997."""

_SETTINGS = ("dtype", "max_document_tokens")


def differs_in_files_only(
    manifest: Manifest, expected: Fingerprint, encoding: Mapping[str, Any]
) -> bool:
    """Whether an index differs from what is expected in the files of the model alone.

    Canaries then decide. They do not show another length, as few texts are that long.

    Args:
        manifest: of the index.
        expected: fingerprint with the model at hand.
        encoding: its settings, see `encoding_record`.
    """
    stored = manifest.fingerprint
    return (
        stored.encoder != expected.encoder
        and stored.prompt == expected.prompt
        and all(manifest.encoding.get(name) == encoding[name] for name in _SETTINGS)
    )


def lowest_canary_cosine(
    model: "T1", documents: Sequence[Document], table: EmbeddingTable
) -> float:
    """The lowest cosine between stored and new embeddings of a few documents of an index.

    The documents are spread evenly over the index.

    Raises:
        DataError: as `T1.encode_document`.
    """
    rows = np.unique(np.linspace(0, len(documents) - 1, NUM_CANARIES).round().astype(int))
    canaries = [documents[row] for row in rows]
    vectors = model.encode_document([document.full_text for document in canaries])
    stored = table.take(np.array([table.row_of[document.id] for document in canaries]))
    return float(model.similarity_pairwise(table.normalize_queries(vectors), stored).min())
