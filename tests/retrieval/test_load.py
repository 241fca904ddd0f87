import contextlib
import gzip
import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError, T1Error
from t1_jax.retrieval import (
    Collection,
    Document,
    Query,
    Record,
    SourceLocation,
    load_collection,
    save_collection,
    splits_of,
)
from t1_jax.retrieval.load import parse_document, parse_query
from t1_jax.retrieval.validation import ValidationReport


def append(path: Path, *lines: str) -> None:
    with path.open("a") as stream:
        stream.writelines(line + "\n" for line in lines)


HEADER = "query-id\tcorpus-id\tscore\n"


def foreign_folder(folder: Path) -> Path:
    """A folder as other tools write it: no collection.json, fields that BEIR adds."""
    (folder / "qrels").mkdir(parents=True)
    (folder / "corpus.jsonl").write_text(
        '{"_id": "d1", "title": "", "text": "one", "metadata": {}}\n{"_id": "d2", "text": "two"}\n'
    )
    (folder / "queries.jsonl").write_text(
        '{"_id": "q1", "text": "first"}\n{"_id": "q2", "text": "second"}\n'
    )
    (folder / "qrels" / "test.tsv").write_text(HEADER + "q1\td2\t1\n")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return foreign_folder(tmp_path / "pets")


@pytest.fixture(scope="session")
def folder_of_session(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return foreign_folder(tmp_path_factory.mktemp("session") / "pets")


def test_a_foreign_folder_is_read(folder: Path):
    collection = load_collection(folder)
    assert collection.name == "pets"
    assert [document.id for document in collection.documents] == ["d1", "d2"]
    assert collection.queries == (Query(id="q1", text="first"),)
    assert collection.qrels == {"q1": {"d2": 1}}


def test_the_round_trip_keeps_everything(collection: Collection, tmp_path: Path):
    save_collection({"test": collection}, tmp_path / "c")
    assert load_collection(tmp_path / "c", "test") == collection


def test_splits_share_documents_and_keep_their_own_queries(collection: Collection, tmp_path: Path):
    parts = {
        name: replace(
            collection,
            queries=tuple(query for query in collection.queries if query.id in ids),
            qrels={key: collection.qrels[key] for key in ids},
            excluded={key: collection.excluded[key] for key in ids if key in collection.excluded},
        )
        for name, ids in {"train": ["q1", "q2"], "test": ["q3"]}.items()
    }
    save_collection(parts, tmp_path / "c")
    assert splits_of(tmp_path / "c") == ("test", "train")
    assert {name: load_collection(tmp_path / "c", name) for name in parts} == parts


names = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=8).filter(
    str.strip
)
texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20).filter(str.strip)


@given(data=st.data())
def test_whatever_a_collection_can_hold_survives_the_files(data, tmp_path_factory):
    documents = data.draw(st.lists(names, min_size=1, max_size=4, unique=True))
    queries = data.draw(st.lists(names, min_size=1, max_size=3, unique=True))
    grades = st.dictionaries(st.sampled_from(documents), st.integers(-2, 3), min_size=1)
    collection = Collection(
        name=data.draw(texts),
        documents=tuple(
            Document(id=key, text=data.draw(texts), title=data.draw(st.just("") | texts))
            for key in documents
        ),
        queries=tuple(Query(id=key, text=data.draw(texts)) for key in queries),
        qrels={key: data.draw(grades) for key in queries},
        excluded={queries[0]: frozenset({documents[0]})},
    )
    folder = tmp_path_factory.mktemp("round") / "trip"
    save_collection({"test": collection}, folder)
    assert load_collection(folder) == collection


scraps = st.lists(
    st.sampled_from([b'{"_id": "d1", ', b'"text": "x"}', b"q1\td1\t1", b"\n", b"\t", b'"', b"\xff"])
    | st.binary(max_size=3)
).map(b"".join)


@given(
    scraps, st.sampled_from(["corpus.jsonl", "queries.jsonl", "qrels/test.tsv", "excluded.jsonl"])
)
def test_no_content_raises_anything_but_our_own_error(folder_of_session, content: bytes, file: str):
    original = (folder_of_session / file).read_bytes() if file != "excluded.jsonl" else b""
    (folder_of_session / file).write_bytes(content)
    try:
        with contextlib.suppress(DataError):
            load_collection(folder_of_session)
    finally:
        (folder_of_session / file).write_bytes(original)


@pytest.mark.parametrize(
    ("file", "line", "place", "fault"),
    [
        ("corpus.jsonl", "{oops", "corpus.jsonl:3", "malformed JSON"),
        ("corpus.jsonl", "", "corpus.jsonl:3", "the line is empty"),
        ("corpus.jsonl", '{"_id": "d3"}', "corpus.jsonl:3", 'field "text" is missing'),
        ("corpus.jsonl", '{"_id": 3.5, "text": "x"}', "corpus.jsonl:3", "must be a string"),
        ("corpus.jsonl", '{"_id": true, "text": "x"}', "corpus.jsonl:3", "must be a string"),
        ("corpus.jsonl", '{"_id": "d3", "text": 3}', "corpus.jsonl:3", "must be a string"),
        ("corpus.jsonl", '{"_id": "d2", "text": "2"}', "corpus.jsonl:3", "different content"),
        ("queries.jsonl", '{"_id": "q2", "text": "x"}', "queries.jsonl:3", "different content"),
        (
            "qrels/test.tsv",
            "q1\td1\t1.5",
            "test.tsv:3",
            "must be an integer of at most 6 digits, found '1.5'",
        ),
        ("qrels/test.tsv", "q1\td2\t2", "test.tsv:3", "two labels for document 'd2'"),
        ("qrels/test.tsv", "q1 d1 1", "test.tsv:3", "expected 3 fields separated by tabs, found 1"),
        ("qrels/test.tsv", 'q1\t"d1\t1', "test.tsv:3", "malformed tab-separated line"),
        ("qrels/test.tsv", "", "test.tsv:3", "expected 3 fields separated by tabs, found 0"),
        ("excluded.jsonl", '{"_id": "q1", "excluded": "d1"}', "excluded.jsonl:1", "a list"),
    ],
)
def test_every_fault_has_its_file_and_line(
    folder: Path, file: str, line: str, place: str, fault: str
):
    with (folder / file).open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError) as caught:
        load_collection(folder)
    assert place in caught.value.message
    assert fault in caught.value.message


def test_what_changes_no_score_is_read_as_published(folder: Path):
    append(
        folder / "corpus.jsonl",
        '{"_id": "d2", "text": "two"}',
        '{"_id": 3, "title": " ", "text": "three"}',
        '{"_id": "d4", "title": "only a title", "text": ""}',
        '{"_id": "d5", "title": "five", "text": null}',
    )
    append(folder / "queries.jsonl", '{"_id": "q1", "text": "first"}')
    append(folder / "qrels" / "test.tsv", "q1\td2\t1", "q1\t3\t2.0", "q2\td4\t1")
    append(
        folder / "excluded.jsonl",
        '{"_id": "q1", "excluded": ["N/A"]}',
        '{"_id": "q2", "excluded": [3]}',
    )
    collection = load_collection(folder)
    assert [item.full_text for item in collection.documents] == [
        "one",
        "two",
        "three",
        "only a title",
        "five",
    ]
    assert collection.qrels == {"q1": {"d2": 1, "3": 2}, "q2": {"d4": 1}}
    assert collection.excluded == {"q2": frozenset({"3"})}
    assert collection.notes == {
        "duplicate lines in the corpus (ignored)": 1,
        "duplicate lines in the queries (ignored)": 1,
        "duplicate lines in the qrels (ignored)": 1,
    }
    plain = collection
    for path in [*folder.glob("*.jsonl"), folder / "qrels" / "test.tsv"]:
        path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
        with pytest.raises(DataError, match="delete one"):
            load_collection(folder)
        path.unlink()
    assert splits_of(folder) == ("test",)
    assert load_collection(folder) == plain


def test_what_is_not_there_is_counted_and_read_only_when_lenient(folder: Path):
    append(folder / "corpus.jsonl", '{"_id": "d3", "text": " "}', '{"_id": "d4", "text": ""}')
    append(folder / "queries.jsonl", '{"_id": "q3", "text": ""}')
    append(
        folder / "qrels" / "test.tsv",
        "q1\td9\t2",
        "q1\td4\t1",
        "q2\td8\t1",
        "q3\td1\t1",
        "q9\td1\t1",
    )
    append(
        folder / "excluded.jsonl",
        '{"_id": "q9", "excluded": ["d1"]}',
        '{"_id": "q1", "excluded": ["d1", "d7"]}',
    )
    with pytest.raises(DataError) as caught:
        load_collection(folder)
    assert [line.partition(f"{folder}/")[2] for line in caught.value.message.splitlines()] == [
        "corpus.jsonl:3: document 'd3' (2 documents without title and text)",
        "queries.jsonl:3: query 'q3' (1 query without text)",
        "qrels/test.tsv:3: unknown document 'd9' (3 qrels for documents that the corpus lacks)",
        "qrels/test.tsv:6: unknown query 'q3' (2 qrels for queries that do not exist)",
        "excluded.jsonl:1: unknown query 'q9' (1 exclusion for queries that do not exist)",
        "excluded.jsonl:2: unknown document 'd7' (1 excluded document that the corpus lacks)",
    ]
    assert "--lenient" in str(caught.value.hint)
    collection = load_collection(folder, lenient=True)
    assert [item.id for item in collection.documents] == ["d1", "d2"]
    assert [item.id for item in collection.queries] == ["q1", "q2"]
    assert collection.qrels == {"q1": {"d2": 1}}
    assert collection.all_qrels == {"q1": {"d2": 1, "d9": 2, "d4": 1}, "q2": {"d8": 1}}
    assert collection.excluded == {"q1": frozenset({"d1"})}
    assert collection.notes == {
        "documents without title and text (dropped)": 2,
        "queries without text (dropped)": 1,
        "qrels for documents that the corpus lacks (kept for scores, as in trec_eval)": 3,
        "qrels for queries that do not exist (dropped)": 2,
        "exclusions for queries that do not exist (dropped)": 1,
        "excluded documents that the corpus lacks (dropped)": 1,
    }


def test_a_byte_order_mark_is_no_part_of_the_first_line(folder: Path):
    expected = load_collection(folder)
    for path in [*folder.glob("*.jsonl"), folder / "qrels" / "test.tsv"]:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert load_collection(folder) == expected


def test_qrels_need_their_header_because_readers_skip_it(folder: Path):
    (folder / "qrels" / "test.tsv").write_text("q1\td2\t1\n")
    with pytest.raises(DataError, match=r"test\.tsv:1: expected the header"):
        load_collection(folder)


@pytest.mark.parametrize("content", ["", HEADER])
def test_a_split_without_qrels_is_refused(folder: Path, content: str):
    (folder / "qrels" / "test.tsv").write_text(content)
    with pytest.raises(DataError, match="split test has no qrels"):
        load_collection(folder)


def test_an_unknown_split_names_the_known_ones(folder: Path):
    for split in ("dev", "../qrels/test"):
        with pytest.raises(DataError, match="choose one of test"):
            load_collection(folder, split)
    with pytest.raises(DataError, match="not a collection in a known format"):
        splits_of(folder / "qrels")


def test_content_that_changed_since_it_was_built_is_refused(collection: Collection, tmp_path: Path):
    save_collection({"test": collection}, tmp_path / "c")
    corpus = tmp_path / "c" / "corpus.jsonl"
    original = corpus.read_text()
    corpus.write_text(original.replace("purrs", "sings"))
    with pytest.raises(DataError, match=r"corpus\.jsonl changed since it was built"):
        load_collection(tmp_path / "c")
    corpus.write_text(original)
    qrels = tmp_path / "c" / "qrels" / "test.tsv"
    qrels.write_text(qrels.read_text().replace("q2\tdog\t1", "q2\tdog\t2"))
    with pytest.raises(DataError, match="split test changed since it was built"):
        load_collection(tmp_path / "c")


@pytest.mark.parametrize("content", ["[]", "{", '{"name": "x"}', "null"])
def test_a_malformed_manifest_is_refused(folder: Path, content: str):
    (folder / "collection.json").write_text(content)
    with pytest.raises(DataError, match=r"collection\.json is malformed"):
        load_collection(folder)


def test_a_manifest_holds_strings_only(collection: Collection, tmp_path: Path):
    save_collection({"test": collection}, tmp_path / "c")
    path = tmp_path / "c" / "collection.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"metadata": {"year": 2024}}))
    with pytest.raises(DataError, match=r"collection\.json is malformed"):
        load_collection(tmp_path / "c")


def test_a_manifest_with_the_former_key_reads_the_same(collection: Collection, tmp_path: Path):
    save_collection({"test": collection}, tmp_path / "c")
    loaded = load_collection(tmp_path / "c", "test")
    path = tmp_path / "c" / "collection.json"
    path.write_text(path.read_text().replace('"qrels_hashes"', '"judgement_hashes"'))
    assert load_collection(tmp_path / "c", "test") == loaded
    path.write_text(path.read_text().replace(loaded.qrels_hash, "0" * 64))
    with pytest.raises(DataError, match="split test changed since it was built"):
        load_collection(tmp_path / "c", "test")


def test_splits_that_do_not_fit_are_not_written(collection: Collection, tmp_path: Path):
    other = replace(collection, documents=(*collection.documents, Document(id="cow", text="moo")))
    reworded = replace(collection, queries=(Query(id="q1", text="who?"), *collection.queries[1:]))
    for splits, fault in [
        ({}, "at least one split"),
        ({"a/b": collection}, "cannot name a split"),
        ({"train": collection, "test": other}, "other documents"),
        ({"train": collection, "test": reworded}, "query 'q1' differs between splits"),
    ]:
        with pytest.raises(DataError, match=fault):
            save_collection(splits, tmp_path / "c")
    assert not (tmp_path / "c").exists()


def test_a_folder_in_use_is_not_overwritten_by_chance(collection: Collection, tmp_path: Path):
    save_collection({"test": collection}, tmp_path / "c")
    with pytest.raises(T1Error, match="already exists"):
        save_collection({"test": collection}, tmp_path / "c")
    save_collection({"dev": collection}, tmp_path / "c", overwrite=True)
    assert splits_of(tmp_path / "c") == ("dev",)


def test_single_records_are_parsed_as_those_of_files():
    location = SourceLocation(path=Path("x/rows.parquet"), line=3)
    report = ValidationReport()
    record = Record(location=location, fields={"docid": 7, "title": "T", "text": "x"})
    document = parse_document(record, report)
    assert document == Document(id="7", title="T", text="x")
    assert document is not None
    assert document.location == SourceLocation(path=Path("rows.parquet"), line=3)
    asked = Record(location=location, fields={"qid": "q", "query": "who?"})
    assert parse_query(asked, report) == Query(id="q", text="who?")
    empty = Record(location=location, fields={"_id": "e", "text": " "})
    assert parse_document(empty, report) is None
    assert parse_query(empty, report) is None
    with pytest.raises(DataError, match=r"rows.parquet:3: document 'e' \(1 document without"):
        report.raise_unless(lenient=False)
