"""Encoding in shards: as at once, resumed after any kill, and noticing every change."""

import json
import random
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.interrupt import Interrupted
from t1_jax.retrieval import Collection, Document, index_documents, load_index, read_manifest
from t1_jax.retriever import EQUAL_COSINE, T1, encode_corpus, lowest_canary_cosine
from t1_jax.retriever.encoder import Encoder
from t1_jax.retriever.shards import ShardFolder
from tests.retriever.tiny import Killed, with_provenance

DOCUMENTS = tuple(
    Document(id=f"d{n:02d}", title="" if n % 3 else f"Title {n}", text=f"text number {n % 17}")
    for n in range(22)
)


@pytest.fixture
def model(tiny_t1: T1, tiny_origin) -> T1:
    return with_provenance(tiny_t1, tiny_origin)


def encoded(model: T1, output: Path, documents: Sequence[Document] = DOCUMENTS, **options):
    fields = {"count": len(documents), "encoding": {"model": "tiny"}, "shard_documents": 5}
    done = encode_corpus(model, iter(documents), output, **(fields | options))
    assert done is not None
    return done


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_it_writes_the_index_of_all_documents_and_nothing_else(model, tmp_path) -> None:
    done = encoded(model, tmp_path / "index")
    collection = Collection(name="x", documents=DOCUMENTS, queries=(), qrels={})
    assert [path.name for path in tmp_path.iterdir()] == ["index"]
    assert done.count == 22
    assert done.fingerprint.data == collection.data_hash
    index = load_index(tmp_path / "index", done.fingerprint)
    assert index.ids == tuple(item.id for item in DOCUMENTS)
    at_once = model.encode_document([item.full_text for item in DOCUMENTS])
    np.testing.assert_allclose(index.vectors, at_once, atol=1e-6)
    kept = index_documents(tmp_path / "index")
    assert [(item.id, item.title, item.text) for item in kept] == [
        (item.id, item.title, item.text) for item in DOCUMENTS
    ]
    assert read_manifest(tmp_path / "index").encoding == {"model": "tiny"}


def test_it_counts_tokens_padding_truncated_and_duplicate_texts(model, tmp_path) -> None:
    documents = [
        Document(id="a", title="", text="same"),
        Document(id="b", title="", text="same"),
        Document(id="c", title="", text="long " * 500),
        Document(id="d", title="", text="long " * 500),
    ]
    done = encoded(model, tmp_path / "index", documents)
    assert (done.truncated, done.duplicates) == (2, 2)
    rows = model.tokenize_documents([documents[0].text, documents[2].text], ["a", "c"])
    assert done.tokens == sum(len(row.ids) for row in rows)
    assert done.padding == pytest.approx(1 - done.tokens / (192 * 2), abs=0.3)
    vectors = load_index(tmp_path / "index", done.fingerprint).vectors
    np.testing.assert_array_equal(vectors[0], vectors[1])


@pytest.mark.parametrize("seed", range(20))
def test_killed_at_any_moment_it_goes_on_and_ends_in_the_same_bits(
    model, tmp_path, monkeypatch, seed
) -> None:
    encoded(model, tmp_path / "straight")
    chance = random.Random(seed)
    moments = ["encode", "replace", "write_index", "journal"]
    moment, after = chance.choice(moments), chance.randrange(4)
    calls = 0

    def killing(function):
        def call(*arguments, **options):
            nonlocal calls
            calls += 1
            if calls > after:
                raise Killed
            return function(*arguments, **options)

        return call

    with monkeypatch.context() as patch:
        if moment == "encode":
            patch.setattr(Encoder, "encode", killing(Encoder.encode))
        elif moment == "replace":
            patch.setattr(Path, "replace", killing(Path.replace))
        elif moment == "journal":
            patch.setattr("t1_jax.retriever.shards.asdict", killing(lambda entry: entry.__dict__))
        else:
            module = "t1_jax.retriever.corpus_encoding.write_exact_index"
            patch.setattr(module, killing(lambda *a, **k: None))
            after = 0
        with pytest.raises(Killed):
            encoded(model, tmp_path / "index")
    assert not (tmp_path / "index").exists()
    done = encoded(model, tmp_path / "index")
    assert done.count == 22
    assert files(tmp_path / "index") == files(tmp_path / "straight")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "straight"]


def begun(model: T1, output: Path, documents: Sequence[Document] = DOCUMENTS, **options) -> None:
    """A run that ends after three of five shards."""

    def until() -> Iterator[Document]:
        for number, item in enumerate(documents):
            if number == 20:
                raise Interrupted
            yield item

    with pytest.raises(Interrupted):
        encode_corpus(
            model,
            until(),
            output,
            **({"count": 22, "encoding": {}, "shard_documents": 5} | options),
        )


def test_finished_shards_are_not_encoded_again_and_a_line_says_so(model, tmp_path) -> None:
    begun(model, tmp_path / "index")
    lines: list[str] = []
    done = encoded(model, tmp_path / "index", log=lines.append)
    assert lines == ["resuming: 15 of 22 documents are encoded"]
    assert done.resumed == 15


def test_a_torn_line_of_the_journal_and_a_damaged_shard_cost_these_shards(model, tmp_path) -> None:
    begun(model, tmp_path / "index")
    parts = tmp_path / ".index.parts"
    journal = parts / "journal-0.jsonl"
    journal.write_bytes(journal.read_bytes()[:-10])
    (parts / "00000.npy").write_bytes(b"damaged")
    done = encoded(model, tmp_path / "index")
    assert done.resumed == 5
    encoded(model, tmp_path / "straight")
    assert files(tmp_path / "index")["vectors.npy"] == files(tmp_path / "straight")["vectors.npy"]


def test_other_settings_are_noticed_and_named(model, tmp_path) -> None:
    begun(model, tmp_path / "index")
    shorter = replace(model.options, max_document_tokens=100)
    other = T1(
        model.decoder,
        model.tokenizer,
        model.preset,
        model.mesh_context,
        options=shorter,
        provenance=model.provenance,
    )
    with pytest.raises(T1Error, match="begun with other settings: .*max_document_tokens") as caught:
        encoded(other, tmp_path / "index")
    assert "add --overwrite" in (caught.value.hint or "")
    assert encoded(other, tmp_path / "index", overwrite=True).resumed == 0


@pytest.mark.parametrize(
    ("documents", "said"),
    [
        ((replace(DOCUMENTS[0], text="changed"), *DOCUMENTS[1:]), "shard 0"),
        (DOCUMENTS[:10], "there were more than 2 shards"),
    ],
)
def test_documents_that_changed_are_noticed_and_overwritten_on_request(
    model, tmp_path, documents, said
) -> None:
    begun(model, tmp_path / "index")
    with pytest.raises(T1Error, match=f"the documents changed since .*{said}"):
        encoded(model, tmp_path / "index", documents)
    done = encoded(model, tmp_path / "index", documents, overwrite=True)
    assert done.count == len(documents)
    encoded(model, tmp_path / "straight", documents)
    assert files(tmp_path / "index") == files(tmp_path / "straight")


def test_a_second_process_is_refused(model, tmp_path) -> None:
    with (
        ShardFolder.opened(tmp_path / "index", {}, start_again=False),
        pytest.raises(T1Error, match="another process is writing"),
    ):
        encoded(model, tmp_path / "index")


def test_no_documents_and_an_empty_one(model, tmp_path) -> None:
    with pytest.raises(DataError, match="there are no documents to encode"):
        encoded(model, tmp_path / "index", ())


def test_speed_is_measured_and_shown(model, tmp_path, monkeypatch) -> None:
    notes: list[str] = []

    @contextmanager
    def track(description, total, unit, *, shown):
        yield lambda units, note="": notes.append(note)

    monkeypatch.setattr("t1_jax.retriever.corpus_encoding.track", track)
    monkeypatch.setattr("t1_jax.retriever.encoding_speed.peak_flops", lambda kind: 1e9)
    speed = encoded(model, tmp_path / "index").speed
    assert speed is not None
    assert speed.tokens_per_second > 0
    assert 0 < speed.padding < 1
    assert 0 < speed.overhead < 1
    assert 0 <= speed.waited < speed.seconds
    assert speed.mfu is not None
    assert re.fullmatch(r"[\d,]+ tokens/s, \d+% padding, \d+% MFU", notes[-1])
    again = encoded(model, tmp_path / "again")
    assert again.speed is not None
    assert again.speed.padding == pytest.approx(speed.padding)


def test_the_precision_is_that_of_the_index_alone_and_its_loss_is_measured(model, tmp_path) -> None:
    begun(model, tmp_path / "index")
    done = encoded(model, tmp_path / "index", precision="int8", truncate_dim=16)
    assert (done.resumed, done.width) == (15, 16)
    assert done.loss is not None
    assert 0 < done.loss.precision_recall_at_10 <= 1
    manifest = read_manifest(tmp_path / "index")
    assert (manifest.precision, manifest.width, manifest.truncated_from) == ("int8", 16, 32)
    assert manifest.measured["precision_recall_at_10"] == done.loss.precision_recall_at_10
    whole = encoded(model, tmp_path / "whole")
    assert whole.loss is None
    index = load_index(tmp_path / "index", done.fingerprint)
    vectors = load_index(tmp_path / "whole", whole.fingerprint).vectors
    assert index.search(vectors[:8], 1).scores.min() > 0.999
    assert lowest_canary_cosine(model, DOCUMENTS, index.table) > EQUAL_COSINE


def test_more_dimensions_than_there_are_is_an_error_before_encoding(model, tmp_path) -> None:
    with pytest.raises(ConfigError, match="truncate_dim is 33, and an embedding has 32"):
        encoded(model, tmp_path / "index", truncate_dim=33)
    assert list(tmp_path.iterdir()) == []


def test_the_journal_is_plain_json(model, tmp_path) -> None:
    begun(model, tmp_path / "index")
    lines = (tmp_path / ".index.parts" / "journal-0.jsonl").read_text().splitlines()
    entries = [json.loads(line) for line in lines]
    assert [entry["shard"] for entry in entries] == [0, 1, 2]
    assert all(entry["count"] == 5 and entry["slots"] >= entry["tokens"] for entry in entries)
