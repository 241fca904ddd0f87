import json

import pytest

from t1_jax.cli.model import model_facts, query_fingerprint, retriever_options
from t1_jax.errors import ConfigError
from t1_jax.retriever import T1, RetrieverOptions, digest, document_fingerprint, open_model


@pytest.fixture(scope="module")
def model(base_model):
    return T1.load(base_model, dtype="float32")


def test_fingerprints_of_the_two_sides_never_meet(model, base_model):
    documents = document_fingerprint(model, "ab")
    queries = query_fingerprint(model, "ab", {"think": True})
    assert documents.encoder == queries.encoder == model.fingerprint
    assert documents.prompt != queries.prompt
    opened = open_model(base_model, dtype="float32")
    assert document_fingerprint(opened, "ab") == documents  # known before weights are read
    assert queries != query_fingerprint(model, "ab", {"think": False})


def test_facts_for_readers(model):
    facts = model_facts(model, "tiny")
    assert (facts.name, facts.encoder, facts.prompt) == (
        "tiny", model.fingerprint, model.preset.hash,
    )  # fmt: skip
    assert facts.details["dtype"] == "float32"
    assert facts.details["devices"] == "1 x cpu: cpu"


def test_a_model_that_was_never_trained_is_announced_until_it_is(t1, base_model, tmp_path, caplog):
    """An imported model is as untrained as its base."""
    imported = tmp_path / "t1"
    assert t1("import", base_model, imported).code == 0
    thinking = ("think", "who?", "--max-thought-tokens", 4, "-m", imported)
    assert "was never trained to retrieve" in t1(*thinking).out
    answer = t1(*thinking, "--json")
    assert "was never trained to retrieve" in answer.err
    T1.load(imported)
    assert caplog.text.count("was never trained to retrieve") == 1
    for names, announced in (([], True), (["pets"], False), (None, False)):
        path = imported / "t1.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | {"trained_on": names}))
        assert (open_model(imported).untrained_warning is not None) == announced


def test_a_digest_does_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1}) != digest({"a": 1, "b": 3})


def test_shapes_hold_the_longest_texts():
    options = retriever_options(None, 20_000)
    assert (options.max_query_tokens, options.max_document_tokens) == (1024, 20_000)
    assert options.buckets.lengths[-2:] == options.shapes.prefix_sizes[-2:] == (16_384, 32_768)
    assert options.buckets.max_batch_tokens == 32_768
    assert retriever_options(None, None) == RetrieverOptions()
    with pytest.raises(ConfigError, match="max_query_tokens must be at least 1"):
        retriever_options(0, None)
