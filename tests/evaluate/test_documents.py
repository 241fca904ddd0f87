"""Document embeddings on disk: each distinct text once, kept for later runs, mapped from a file."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.evaluate.documents import encode_in_folder, encode_in_memory, grouped_by_text
from t1_jax.parallel import single_device_mesh_context
from t1_jax.retrieval import Collection, Document
from t1_jax.retriever import T1, RetrieverOptions
from t1_jax.text import BucketConfig, T1Tokenizer
from tests.evaluate.toys import LetterModel
from tests.train.toy_runs import write_model


@given(texts=st.lists(st.sampled_from("abcdefghij"), max_size=30), shard=st.integers(1, 8))
def test_equal_texts_share_a_shard_if_there_is_room(texts: list[str], shard: int):
    documents = [Document(id=str(number), text=text) for number, text in enumerate(texts)]
    order = list(grouped_by_text(documents, shard))
    assert sorted(order, key=lambda item: int(item.id)) == documents
    shards_of = {
        text: {place // shard for place, item in enumerate(order) if item.text == text}
        for text in texts
    }
    repeated = {text for text in texts if texts.count(text) > 1}
    fillers = len([text for text in texts if text not in repeated])
    if all(texts.count(text) <= shard for text in repeated) and fillers >= shard * len(repeated):
        assert all(len(shards) == 1 for shards in shards_of.values())


def test_texts_are_packed_by_hand():
    """Shards of 3: b and c repeat, and c does not fit beside b, so a fills the shard."""
    documents = [Document(id=str(number), text=text) for number, text in enumerate("abcbcd")]
    assert [item.text for item in grouped_by_text(documents, 3)] == list("bbaccd")


@pytest.fixture(scope="module")
def tiny_model(tmp_path_factory: pytest.TempPathFactory, tiny_tokenizer: T1Tokenizer) -> T1:
    """A random model that truncates documents after 64 tokens."""
    folder = write_model(tmp_path_factory.mktemp("model") / "tiny", tiny_tokenizer)
    options = RetrieverOptions(
        max_document_tokens=64,
        buckets=BucketConfig(lengths=(64,), batch_sizes=(1, 4), max_batch_tokens=256),
    )
    return T1.load(
        folder, dtype="float32", mesh_context=single_device_mesh_context(), options=options
    )


@pytest.fixture
def documents() -> Collection:
    texts = ["aa", "bb", "aa", "c" * 99, "bb"]
    return Collection(
        name="texts",
        documents=tuple(Document(id=f"d{n}", text=text) for n, text in enumerate(texts)),
        queries=(),
        qrels={},
    )


def test_in_memory_and_on_disk_are_the_same(documents: Collection, tmp_path: Path, tiny_model: T1):
    lines: list[str] = []
    options = {"name": "texts", "encoding": {"model": "tiny"}, "log": lines.append}
    in_memory = encode_in_memory(tiny_model, documents)
    on_disk = encode_in_folder(tiny_model, documents, tmp_path, **options)
    queries = np.ones((1, tiny_model.embed_dim), np.float32)
    first, second = (encoded.build("numpy", queries) for encoded in (in_memory, on_disk))
    assert isinstance(second.table.stored, np.memmap)
    order = [second.ids.index(name) for name in first.ids]
    np.testing.assert_allclose(first.vectors, second.vectors[order], atol=1e-6)
    assert (on_disk.distinct, in_memory.distinct) == (3, 3)
    assert on_disk.truncated == in_memory.truncated
    assert lines == []
    again = encode_in_folder(tiny_model, documents, tmp_path, **options)
    assert (again.truncated, again.seconds) == (on_disk.truncated, on_disk.seconds)
    (line,) = lines
    assert "texts: the documents were encoded before" in line


def test_a_killed_run_goes_on_and_encodes_each_distinct_text_once(
    documents: Collection, tmp_path: Path, tiny_model: T1, monkeypatch: pytest.MonkeyPatch
):
    """In shards of 2: aa aa, bb bb, c. The second one fails the first time."""
    lines: list[str] = []
    encoded: list[str] = []
    encode = tiny_model.encoder.encode

    def fail_once(rows, *, names, **options):
        encoded.extend(names)
        if len(encoded) == 2:
            raise MemoryError
        return encode(rows, names=names, **options)

    monkeypatch.setattr("t1_jax.evaluate.documents.SHARD_DOCUMENTS", 2)
    monkeypatch.setattr(tiny_model.encoder, "encode", fail_once)
    options = {"name": "texts", "encoding": {}, "log": lines.append}
    with pytest.raises(MemoryError):
        encode_in_folder(tiny_model, documents, tmp_path, **options)
    on_disk = encode_in_folder(tiny_model, documents, tmp_path, **options)
    assert lines == ["resuming: 2 of 5 documents are encoded"]
    assert encoded == [f"document 'd{number}'" for number in (0, 1, 1, 3)]
    monkeypatch.undo()
    index = on_disk.build("numpy", np.ones((1, tiny_model.embed_dim), np.float32))
    for document in documents.documents:
        row = index.vectors[index.ids.index(document.id)]
        expected = tiny_model.encode_document(document.text)
        np.testing.assert_allclose(row, expected, atol=1e-6)


def test_other_documents_never_find_the_embeddings(
    documents: Collection, tmp_path: Path, tiny_model: T1
):
    options = {"name": "texts", "encoding": {}}
    encode_in_folder(tiny_model, documents, tmp_path, **options)
    other = dataclasses.replace(documents, documents=documents.documents[:2])
    encoded = encode_in_folder(tiny_model, other, tmp_path, **options)
    assert len(encoded.build("numpy", np.ones((1, 1), np.float32)).ids) == 2
    assert len(list(tmp_path.glob("texts-*/"))) == 2


def test_a_kill_between_the_index_and_its_counts(
    documents: Collection, tmp_path: Path, tiny_model: T1
):
    options = {"name": "texts", "encoding": {}}
    before = encode_in_folder(tiny_model, documents, tmp_path, **options)
    (counts,) = tmp_path.glob("*.json")
    counts.unlink()
    after = encode_in_folder(tiny_model, documents, tmp_path, **options)
    assert (after.distinct, after.truncated) == (before.distinct, before.truncated)


def test_an_approximate_index_measures_its_recall_with_the_queries(documents: Collection):
    pytest.importorskip("scann")
    encoded = encode_in_memory(LetterModel(), documents)
    index = encoded.build("scann", np.ones((2, 27), np.float32))
    assert index.kind == "scann"
