import numpy as np
import pytest

from t1_jax.retrieval import Document, EmbeddingTable
from t1_jax.retriever import EQUAL_COSINE, T1, lowest_canary_cosine

DOCUMENTS = [Document(id=f"d{i}", text=f"text number {i}") for i in range(20)]


def test_the_same_encoder_passes_and_a_changed_document_does_not(tiny_t1: T1):
    vectors = np.array(tiny_t1.encode_document([d.text for d in DOCUMENTS]))
    ids = [document.id for document in DOCUMENTS]

    def lowest() -> float:
        table = EmbeddingTable.from_vectors(ids, vectors)
        return lowest_canary_cosine(tiny_t1, DOCUMENTS, table)

    assert lowest() == pytest.approx(1, abs=1e-5)
    assert (
        lowest_canary_cosine(tiny_t1, DOCUMENTS[:1], EmbeddingTable.from_vectors(ids, vectors))
        > EQUAL_COSINE
    )
    vectors[-1] = -vectors[-1]  # the last document is a canary
    assert lowest() == pytest.approx(-1, abs=1e-5)
