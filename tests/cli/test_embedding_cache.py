import dataclasses

import numpy as np
import pytest

from t1_jax.cli.embedding_cache import RememberedDocuments
from t1_jax.retriever import T1, RetrieverOptions

TEXTS = ["A cat purrs.", "A dog barks.", "A fish swims."]


@pytest.fixture(scope="module")
def model(base_model):
    return T1.load(base_model, dtype="float32")


@pytest.fixture
def counted(model, monkeypatch):
    """How many times documents were really encoded."""
    calls = []
    encode = T1.encode_document

    def counting(self, texts, **how):
        calls.append(len(texts))
        return encode(self, texts, **how)

    monkeypatch.setattr(T1, "encode_document", counting)
    return calls


def test_the_second_time_is_read_bit_for_bit(model, counted, tmp_path):
    remembered = RememberedDocuments(model, tmp_path)
    assert not remembered.remembers(["0", "1", "2"], TEXTS)
    first = remembered.encode_document(TEXTS)
    assert remembered.remembers(["0", "1", "2"], TEXTS)
    np.testing.assert_array_equal(
        RememberedDocuments(model, tmp_path).encode_document(TEXTS), first
    )
    assert counted == [3]


def test_other_texts_ids_prompts_or_lengths_are_encoded_anew(model, counted, tmp_path):
    RememberedDocuments(model, tmp_path).encode_document(TEXTS)
    RememberedDocuments(model, tmp_path).encode_document([*TEXTS[:2], "A fish sings."])
    RememberedDocuments(model, tmp_path).encode_document(TEXTS, document_ids=["a", "b", "c"])
    template = model.preset.document_template.replace("passage", "text")
    preset = dataclasses.replace(model.preset, document_template=template)
    shorter = RetrieverOptions(max_document_tokens=64)
    for words, options in ((preset, model.options), (model.preset, shorter)):
        other = T1(model.decoder, model.tokenizer, words, model.mesh_context, options=options,
                   provenance=model.provenance)  # fmt: skip
        RememberedDocuments(other, tmp_path).encode_document(TEXTS)
    assert counted == [3] * 5


def test_damage_is_mended_and_nothing_is_kept_unasked(model, counted, tmp_path):
    remembered = RememberedDocuments(model, tmp_path)
    first = remembered.encode_document(TEXTS)
    (vectors,) = tmp_path.glob("*/vectors.npy")
    vectors.write_bytes(vectors.read_bytes()[:-8])
    np.testing.assert_array_equal(remembered.encode_document(TEXTS), first)
    RememberedDocuments(model, None).encode_document(TEXTS)
    assert counted == [3, 3, 3]
    assert len(list(tmp_path.iterdir())) == 1
