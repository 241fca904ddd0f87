"""Fuzzed files in every format: each content gives a collection or a T1Error."""

import contextlib
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from t1_jax.errors import T1Error
from t1_jax.retrieval import (
    check_corpus_file,
    find_layout,
    load_collection,
    load_documents,
    load_queries,
    read_run,
    save_collection,
    splits_of,
)
from tests.retrieval.layouts.test_recognize import DOCS, FORMATS, SGML, XML
from tests.retrieval.test_fuzz import damaged

_NAMES = (
    *("corpus.jsonl", "corpus.tsv", "collection.trec", "corpus", "qrels", "qrels.txt"),
    *("qrels/test.tsv", "topics.txt", "topics.dev.tsv", "queries.jsonl", "dev_queries.jsonl"),
    *("dev_qrels.jsonl", "train.jsonl", "excluded.jsonl", "qrels.dev.small.tsv", "qrels.jsonl.gz"),
)
_CONTENTS = (
    b"",
    b"q1 0 d1 1\n",
    b"query-id\tcorpus-id\tscore\nq1\td1\t1\n",
    b'{"_id": "d1", "text": "x"}\n',
    b'{"query_id": "q1", "query": "x", "positive_document_ids": ["d1"]}\n',
    b'{"qid": "q1", "docid": "d1", "relevance": 1}\n',
    b"q1\twho?\n",
    SGML.encode(),
    DOCS.encode(),
)


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("formats")
    for name, write in FORMATS.items():
        write(folder / name)
    return folder


@settings(max_examples=80)
@given(data=st.data(), lenient=st.booleans())
def test_damaged_files_of_every_format(originals: Path, data: st.DataObject, lenient: bool):
    name = data.draw(st.sampled_from(sorted(FORMATS)))
    folder = originals / "damaged"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(originals / name, folder)
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    for path in data.draw(st.sets(st.sampled_from(files), min_size=1, max_size=2)):
        path.write_bytes(data.draw(damaged(path.read_bytes())))
    with contextlib.suppress(T1Error):
        (split,) = splits_of(folder)
        collection = load_collection(folder, split, lenient=lenient)
        corpus = check_corpus_file(folder, lenient=lenient)
        assert tuple(corpus.documents()) == collection.documents
        assert load_documents(folder, lenient=lenient).documents == collection.documents
        save_collection({split: collection}, folder / "again", overwrite=True)
        again = load_collection(folder / "again", split, lenient=bool(collection.absent_qrels))
        assert again == collection


@settings(max_examples=60)
@given(data=st.data(), lenient=st.booleans())
def test_damaged_topics_and_documents_with_tags(
    originals: Path, data: st.DataObject, lenient: bool
):
    name, content, read = data.draw(
        st.sampled_from(
            [
                ("topics.txt", SGML, load_queries),
                ("topics.xml", XML, load_queries),
                ("corpus.trec", DOCS, load_documents),
            ]
        )
    )
    tags = st.sampled_from([b"<top>", b"</top>", b"<num>", b"<DOC>", b"</DOC", b"<", b">", b"&#0;"])
    raw = content.encode()
    for _ in range(data.draw(st.integers(0, 3))):
        place = data.draw(st.integers(0, len(raw)))
        raw = raw[:place] + data.draw(tags) + raw[place:]
    path = originals / name
    path.write_bytes(data.draw(st.just(raw) | damaged(raw)))
    with contextlib.suppress(T1Error):
        assert read(path, lenient=lenient).notes is not None


@settings(max_examples=60)
@given(data=st.data())
def test_damaged_runs(originals: Path, data: st.DataObject):
    raw = data.draw(
        st.sampled_from([b'{"q1": {"d1": 2.5, "d 2": 1}, "q2": {}}', b"q1\td1\t2.5\nq1\td 2\t1\n"])
    )
    path = originals / "run"
    path.write_bytes(data.draw(damaged(raw)))
    with contextlib.suppress(T1Error):
        for scores in read_run(path).values():
            assert all(isinstance(score, float) for score in scores.values())


@settings(max_examples=80)
@given(
    st.dictionaries(st.sampled_from(_NAMES), st.sampled_from(_CONTENTS) | st.none(), max_size=5),
    st.booleans(),
)
def test_any_set_of_files_is_recognized_or_refused(originals: Path, files: dict, lenient: bool):
    folder = originals / "any"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        with contextlib.suppress(FileExistsError, NotADirectoryError, IsADirectoryError):
            path.parent.mkdir(exist_ok=True)
            path.mkdir() if content is None else path.write_bytes(content)
    with contextlib.suppress(T1Error):
        layout = find_layout(folder)
        for split in [] if layout is None else layout.splits:
            with contextlib.suppress(T1Error):
                load_collection(folder, split, lenient=lenient, needs_documents=False)
