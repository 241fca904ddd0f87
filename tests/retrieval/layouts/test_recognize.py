"""The same collection in every format gives the same documents, queries and qrels."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import (
    Collection,
    check_corpus_file,
    find_layout,
    load_collection,
    load_documents,
    load_queries,
    save_collection,
    splits_of,
)

DOCUMENTS = {"cat": ("Cats", "A cat purrs."), "dog": ("", "A dog barks."), "sea cow": ("", "Moo.")}
QUERIES = {"q1": "who purrs?", "q2": "who lives in the sea"}
QRELS = [("q1", "cat", 2), ("q1", "dog", 0), ("q2", "sea cow", 1)]


def write(folder: Path, **files: str) -> Path:
    """Writes files; in their names two underscores are a dot."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name.replace("__", ".")).write_text(content, encoding="utf-8")
    return folder


def lines(*rows: object) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def beir(folder: Path) -> Path:
    write(folder / "qrels", test__tsv="query-id\tcorpus-id\tscore\n" + _tabbed(QRELS))
    return write(
        folder,
        corpus__jsonl=lines(*(_document("_id", name) for name in DOCUMENTS)),
        queries__jsonl=lines(*({"_id": name, "text": text} for name, text in QUERIES.items())),
    )


def flag_embedding(folder: Path) -> Path:
    return write(
        folder,
        corpus__jsonl=lines(*(_document("id", name) for name in DOCUMENTS)),
        test_queries__jsonl=lines(*({"id": name, "text": text} for name, text in QUERIES.items())),
        test_qrels__jsonl=lines(
            *({"qid": q, "docid": d, "relevance": label} for q, d, label in QRELS)
        ),
    )


def tevatron(folder: Path) -> Path:
    """The two forms of Tevatron, a line each; labels are 1, and there are no others."""
    return write(
        folder,
        corpus__jsonl=lines(*(_document("docid", name) for name in DOCUMENTS)),
        test__jsonl=lines(
            {
                "query_id": "q1",
                "query": QUERIES["q1"],
                "positive_passages": [_document("docid", "cat")],
                "negative_passages": [_document("docid", "dog")],
            },
            {
                "query_id": "q2",
                "query_text": QUERIES["q2"],
                "positive_document_ids": ["sea cow"],
                "negative_document_ids": [],
            },
        ),
    )


def trec(folder: Path) -> Path:
    """The files of pyserini for BRIGHT: ids with spaces are written with underscores in qrels."""
    qrels = "".join(f"{q} 0 {d.replace(' ', '_')} {label}\n" for q, d, label in QRELS)
    write(
        folder,
        corpus__jsonl=lines(*(_document("_id", name) for name in DOCUMENTS)),
        **{"qrels__bright-pets__txt": qrels},
    )
    topics = folder / "topics.bright-pets.tsv.gz"
    topics.write_bytes(gzip.compress(_tabbed(list(QUERIES.items())).encode()))
    return folder


def _document(key: str, name: str) -> dict[str, str]:
    title, text = DOCUMENTS[name]
    return {key: name, "text": text} | ({"title": title} if title else {})


def _tabbed(rows: list[tuple]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


FORMATS = {"BEIR": beir, "FlagEmbedding": flag_embedding, "Tevatron": tevatron, "TREC": trec}


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_gives_the_same_collection(tmp_path: Path, name: str):
    folder = FORMATS[name](tmp_path / "pets")
    layout = find_layout(folder)
    assert layout is not None
    assert layout.name == name
    assert splits_of(folder) == ("test",)
    collection = load_collection(folder)
    expected = load_collection(beir(tmp_path / "beir" / "pets"))
    assert collection.documents == expected.documents
    assert collection.queries == expected.queries
    graded = {q: {d: min(label, 1) for d, label in row.items() if label} for q, row in
              expected.qrels.items()}  # fmt: skip
    assert collection.qrels == (graded if name == "Tevatron" else expected.qrels)
    assert collection.data_hash == expected.data_hash
    assert load_documents(folder).documents == expected.documents
    corpus = check_corpus_file(folder)
    assert (tuple(corpus.documents()), corpus.count) == (expected.documents, 3)


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_may_exclude_documents(tmp_path: Path, name: str):
    folder = write(
        FORMATS[name](tmp_path / "pets"),
        excluded__jsonl=lines({"_id": "q1", "excluded": ["sea cow"]}),
    )
    assert load_collection(folder).excluded == {"q1": frozenset({"sea cow"})}


SGML = """<top>
<num> Number: q1
<title> who purrs?

<desc> Description:
Find &amp; name the animal.
</top>

<top><num> Number: q2 <title> who lives in
the sea
</top>
"""
XML = """<?xml version="1.0"?>
<topics><topic number="q1"><query>who purrs?</query><question>Which one?</question></topic>
<topic number='q2'>
who lives in the sea
</topic></topics>
"""
DOCS = """<DOC>
<DOCNO> cat </DOCNO>
<TITLE>Cats</TITLE>
<TEXT>
A cat <b>purrs</b>.
</TEXT>
</DOC>
<DOC><DOCNO>dog</DOCNO>A dog &lt;barks&gt;.</DOC>
"""


@pytest.mark.parametrize(("name", "topics"), [("topics.txt", SGML), ("topics.xml", XML)])
def test_topics_of_trec(tmp_path: Path, name: str, topics: str):
    (tmp_path / name).write_text(topics)
    (tmp_path / "qrels.txt").write_text("q1 0 cat 1\nq2 0 dog 1\n")
    (tmp_path / "corpus.trec").write_text(DOCS)
    collection = load_collection(tmp_path)
    assert [(item.id, item.text) for item in collection.queries] == list(QUERIES.items())
    assert [(item.id, item.title, item.text) for item in collection.documents] == [
        ("cat", "Cats", "A cat purrs ."),
        ("dog", "", "A dog <barks>."),
    ]
    assert [item.location and item.location.line for item in collection.documents] == [1, 8]
    assert load_queries(tmp_path / name).queries == collection.queries


def test_topics_of_early_tracks_and_of_microblogs(tmp_path: Path):
    (tmp_path / "topics.txt").write_text(
        "<top>\n<head> Tipster Topic Description\n<num> Number:  051\n<dom> Domain:  Economics\n"
        "<title> Topic:  Airbus Subsidies\n<desc> Description:\nA document.\n</top>\n"
        "<top>\n<num> Number: MB051 </num>\n<query> Government cuts </query>\n"
        "<querytime> Tue Feb 08 23:56:46 +0000 2011 </querytime>\n</top>\n"
    )
    assert [(item.id, item.text) for item in load_queries(tmp_path / "topics.txt").queries] == [
        ("51", "Airbus Subsidies"),
        ("MB051", "Government cuts"),
    ]
    (tmp_path / "topics.txt").write_text("176\tYSR Reddy death\n")
    assert [item.id for item in load_queries(tmp_path / "topics.txt").queries] == ["176"]


def test_splits_of_ms_marco(tmp_path: Path):
    write(
        tmp_path / "corpus",
        a__tsv="cat\tA cat purrs.\n",
        b__jsonl=lines({"id": "dog", "contents": "A dog barks."}),
    )
    write(
        tmp_path,
        queries__dev__tsv="1\twho purrs?\n",
        queries__train__tsv="2\twho barks?\n",
        qrels__dev__small__tsv="1\t0\tcat\t1\n",
        qrels__train__tsv="2\t0\tdog\t1\n",
    )
    with pytest.raises(DataError, match=r"topics of the split 'dev\.small' are not clear"):
        load_collection(tmp_path, "train")
    (tmp_path / "qrels.dev.small.tsv").rename(tmp_path / "qrels.dev.tsv")
    assert splits_of(tmp_path) == ("dev", "train")
    assert load_collection(tmp_path, "train").qrels == {"2": {"dog": 1}}
    assert [item.text for item in load_documents(tmp_path).documents] == [
        "A cat purrs.",
        "A dog barks.",
    ]


def test_topics_and_qrels_without_documents_score_a_run_only(tmp_path: Path):
    write(tmp_path, topics__tsv="q1\twho purrs?\n", qrels__txt="q1 0 cat 2\n")
    collection = load_collection(tmp_path, needs_documents=False)
    assert (collection.documents, collection.qrels) == ((), {})
    assert collection.all_qrels == {"q1": {"cat": 2}}
    for read in (load_collection, load_documents):
        with pytest.raises(DataError, match="has topics and qrels, and no documents") as caught:
            read(tmp_path)
        assert "t1 evaluate --run" in str(caught.value.hint)


def test_qrels_beside_tevatrons_training_data_decide(tmp_path: Path):
    layout = find_layout(tevatron(beir(tmp_path)))
    assert layout is not None
    assert layout.name == "BEIR"


def test_two_formats_in_one_folder_are_refused(tmp_path: Path):
    beir(tmp_path)
    write(tmp_path, qrels__txt="q1 0 cat 1\n")
    with pytest.raises(DataError, match="the files of two formats, BEIR and TREC"):
        load_collection(tmp_path)


def test_what_is_no_collection_says_which_files_one_has(tmp_path: Path):
    write(tmp_path, notes__txt="hello", embeddings__pkl="x", data__jsonl=lines({"a": 1}))
    assert find_layout(tmp_path) is None
    with pytest.raises(DataError, match="not a collection in a known format") as caught:
        load_collection(tmp_path)
    assert "qrels/test.tsv" in str(caught.value.hint)
    write(tmp_path, corpus__jsonl=lines(_document("_id", "cat")))
    assert len(load_documents(tmp_path).documents) == 1
    with pytest.raises(DataError, match="has documents only, no qrels"):
        splits_of(tmp_path)
    with pytest.raises(DataError, match="has no split 'test'"):
        load_collection(tmp_path)


FAULTS: list[tuple[Callable[[Path], Path], str, str, str, str]] = [
    (beir, "corpus.jsonl", '{"_id": 1.5}', "corpus.jsonl:4", 'field "_id" must be a string'),
    (flag_embedding, "test_qrels.jsonl", '{"qid": "q1", "docid": "cat"}', "test_qrels.jsonl:4",
     'field "relevance" is missing'),
    (flag_embedding, "test_qrels.jsonl", '{"qid": "q1", "docid": "cat", "relevance": true}',
     "test_qrels.jsonl:4", 'field "relevance" must be an integer'),
    (flag_embedding, "test_queries.jsonl", "[]", "test_queries.jsonl:3", "expected a JSON object"),
    (tevatron, "test.jsonl", "{", "test.jsonl:3", "malformed JSON"),
    (tevatron, "test.jsonl", '{"query_id": "q3", "query": "x"}', "test.jsonl:3",
     'field "positive_passages" is missing'),
    (tevatron, "test.jsonl", '{"query_id": "q3", "query": "x", "positive_passages": ["cat"]}',
     "test.jsonl:3", 'field "positive_passages" must be a list of objects'),
    (tevatron, "test.jsonl", '{"query_id": "q3", "query": "x", "positive_document_ids": 3}',
     "test.jsonl:3", "must be a list of strings"),
    (trec, "qrels.bright-pets.txt", "q1 cat 1", "qrels.bright-pets.txt:4", "expected 4 fields"),
    (trec, "qrels.bright-pets.txt", "q1 0 cat high", "qrels.bright-pets.txt:4", "found 'high'"),
    (trec, "qrels.bright-pets.txt", "q1 0 c\x01 1", "qrels.bright-pets.txt:4", "control character"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "file", "line", "place", "problem"), FAULTS)
def test_malformed_records_have_file_and_line_and_are_counted_when_lenient(
    tmp_path: Path, make: Callable[[Path], Path], file: str, line: str, place: str, problem: str
):
    folder = make(tmp_path / "pets")
    expected = load_collection(folder)
    with (folder / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError) as caught:
        load_collection(folder)
    assert place in caught.value.message
    assert problem in caught.value.message
    assert "--lenient" in str(caught.value.hint)
    collection = load_collection(folder, lenient=True)
    assert collection == expected
    assert sum(collection.notes.values()) == collection.notes["malformed records (dropped)"] == 1
    if file == "corpus.jsonl":
        corpus = check_corpus_file(folder, lenient=True)
        assert corpus.notes == collection.notes
        assert tuple(corpus.documents()) == expected.documents


@pytest.mark.parametrize(
    ("name", "content", "place", "problem"),
    [
        ("topics.tsv", "q1\ta\nq2 b\n", "topics.tsv:2", "id and text separated by a tab, found 1"),
        ("topics.tsv", "q1\ta\n\tb\n", "topics.tsv:2", "the id is empty"),
        ("topics.txt", "<top>\n<num> 1\n", "topics.txt:1", "the element has no end"),
        ("topics.txt", "\n<top><title> a\n</top>\n", "topics.txt:2", "neither <num> nor"),
        ("topics.txt", "<top\n</top>\n", "topics.txt:1", "tag of an element is not closed"),
        ("corpus.trec", "<DOC>\n<TEXT>a</TEXT></DOC>\n", "corpus.trec:1", "has no <DOCNO>"),
    ],
)
def test_malformed_texts_have_file_and_line(
    tmp_path: Path, name: str, content: str, place: str, problem: str
):
    (tmp_path / name).write_text(content)
    read = load_documents if name.startswith("corpus") else load_queries
    with pytest.raises(DataError) as caught:
        read(tmp_path / name)
    assert place in caught.value.message
    assert problem in caught.value.message


def test_a_collection_that_is_saved_is_in_the_beir_format(tmp_path: Path):
    collection = load_collection(trec(tmp_path / "pets"))
    save_collection({"test": collection}, tmp_path / "saved")
    again: Collection = load_collection(tmp_path / "saved")
    assert again == collection
