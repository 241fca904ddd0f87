import dataclasses

import numpy as np
import pytest

from t1_jax.cli.embedding_cache import CachedDocumentEncoder
from t1_jax.retriever import T1, RetrieverOptions

TEXTS = ["A cat purrs.", "A dog barks.", "A fish swims."]


@pytest.fixture(scope="module")
def model(base_model):
    return T1.load(base_model, dtype="float32")


@pytest.fixture
def num_encoded(model, monkeypatch):
    """The number of documents in each call that reached the model."""
    calls = []
    encode = T1.encode_document

    def counting(self, texts, **options):
        calls.append(len(texts))
        return encode(self, texts, **options)

    monkeypatch.setattr(T1, "encode_document", counting)
    return calls


def test_the_second_call_reads_the_same_bits(model, num_encoded, tmp_path):
    first = CachedDocumentEncoder(model, tmp_path).encode_document(TEXTS)
    second = CachedDocumentEncoder(model, tmp_path).encode_document(TEXTS)
    np.testing.assert_array_equal(second, first)
    assert num_encoded == [3]


def test_other_texts_ids_prompts_or_lengths_are_encoded_again(model, num_encoded, tmp_path):
    CachedDocumentEncoder(model, tmp_path).encode_document(TEXTS)
    CachedDocumentEncoder(model, tmp_path).encode_document([*TEXTS[:2], "A fish sings."])
    CachedDocumentEncoder(model, tmp_path).encode_document(TEXTS, document_ids=["a", "b", "c"])
    template = model.preset.document_template.replace("passage", "text")
    preset = dataclasses.replace(model.preset, document_template=template)
    shorter = RetrieverOptions(max_document_tokens=64)
    for prompts, options in ((preset, model.options), (model.preset, shorter)):
        other = T1(model.decoder, model.tokenizer, prompts, model.mesh_context, options=options,
                   provenance=model.provenance)  # fmt: skip
        CachedDocumentEncoder(other, tmp_path).encode_document(TEXTS)
    assert num_encoded == [3] * 5


def test_a_damaged_entry_is_encoded_again(model, num_encoded, tmp_path):
    cached = CachedDocumentEncoder(model, tmp_path)
    first = cached.encode_document(TEXTS)
    (vectors,) = tmp_path.glob("*/vectors.npy")
    vectors.write_bytes(vectors.read_bytes()[:-8])
    np.testing.assert_array_equal(cached.encode_document(TEXTS), first)
    assert num_encoded == [3, 3]
    assert len(list(tmp_path.iterdir())) == 1
