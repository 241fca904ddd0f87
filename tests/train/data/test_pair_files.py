import gzip
import json
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from t1_jax.errors import DataError
from t1_jax.retrieval import Document
from t1_jax.train.data import read_pairs

CAT, DOG = "A cat purrs and hunts.", "A dog barks at night."
CORPUS = (Document(id="d1", text=CAT, title="Cats"), Document(id="d2", text=DOG))


def write(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    "row",
    [
        {"query": "who purrs", "positive": CAT, "negative": DOG},
        {"query": "who purrs", "positives": [CAT], "negatives": [DOG]},
        {"anchor": "who purrs", "positive": CAT, "negative_1": DOG},
        {"question": "who purrs", "answer": CAT, "hard_negatives": [DOG]},
        ["who purrs", CAT, DOG],
        {
            "query_id": "7",
            "query": "who purrs",
            "positive_passages": [{"docid": "1", "title": "", "text": CAT}],
            "negative_passages": [{"docid": "2", "title": "", "text": DOG}],
        },
        {"query": "who purrs", "pos": [CAT], "neg": [DOG], "pos_scores": [0.9], "type": "normal"},
    ],
)
def test_every_format_gives_the_same_record(tmp_path, row):
    pairs = read_pairs([write(tmp_path / "pairs.jsonl", row)])
    (record,) = pairs.records
    texts = {document.id: document.text for document in pairs.documents}
    assert record.query == "who purrs"
    assert [texts[name] for name in record.positives] == [CAT]
    assert [texts[name] for name in record.negatives] == [DOG]
    assert len(texts) == 2


@pytest.mark.parametrize(
    "row",
    [
        {"query": "who purrs", "positive": "d1", "negative": "d2"},
        {"query": "who purrs", "positive": f"Cats\n{CAT}", "negative": DOG},
        {"query_text": "who purrs", "positive_document_ids": ["d1"],
         "negative_document_ids": ["d2"]},
        {"query_id": "q1", "query": "who purrs", "positives": {"d1": 2}, "negatives": ["d2"]},
    ],
)  # fmt: skip
def test_passages_are_ids_or_texts_of_a_corpus(tmp_path, row):
    pairs = read_pairs([write(tmp_path / "pairs.jsonl", row)], CORPUS)
    assert pairs.documents == CORPUS
    (record,) = pairs.records
    assert (list(record.positives), record.negatives) == (["d1"], ("d2",))


def test_tables_are_read_like_lines(tmp_path):
    row = {"anchor": "who purrs", "positive": 'A "cat",\npurrs.', "thought": "a cat"}
    lines = write(tmp_path / "pairs.jsonl", row)
    zipped = tmp_path / "pairs.jsonl.gz"
    zipped.write_bytes(gzip.compress(lines.read_bytes()))
    whole = tmp_path / "pairs.json"
    whole.write_text(json.dumps([row], indent=2))
    table = tmp_path / "pairs.parquet"
    parquet.write_table(pyarrow.Table.from_pylist([{**row, "negative": None}]), table)
    commas = tmp_path / "pairs.csv"
    commas.write_text('anchor,positive,thought,negative\nwho purrs,"A ""cat"",\npurrs.",a cat,\n')
    expected = read_pairs([lines])
    assert expected.records[0].thoughts == ("a cat",)
    for path in (zipped, whole, table, commas):
        assert read_pairs([path]) == expected, path.name


def test_lines_of_one_query_become_one_record(tmp_path):
    path = write(
        tmp_path / "pairs.jsonl",
        {"sentence1": "who purrs", "sentence2": CAT, "label": 1},
        {"sentence1": "Who purrs", "sentence2": DOG, "label": 0.0},
        {"sentence1": "who barks", "sentence2": CAT, "label": 0},
        {"sentence1": "who  purrs", "sentence2": CAT, "label": 1, "source": "web"},
    )
    pairs = read_pairs([path])
    (record,) = pairs.records
    assert (len(record.positives), len(record.negatives)) == (1, 1)
    assert pairs.notes == {
        "lines that repeat a query, which are merged": 2,
        "queries without a positive, which are dropped": 1,
        "values of the unused column 'source'": 1,
    }


def test_a_negative_that_is_a_positive_is_dropped_and_counted(tmp_path):
    path = write(tmp_path / "p.jsonl", {"query": "who", "pos": [CAT], "neg": [CAT.upper(), DOG]})
    pairs = read_pairs([path])
    assert len(pairs.records[0].negatives) == 1
    assert pairs.notes == {"negatives that are positives of the same query, which are dropped": 1}


@pytest.mark.parametrize(
    ("row", "message", "hint"),
    [
        ({"query": "who", "postive": CAT}, ":1: the positive is missing", "'positive'?"),
        ({"text": CAT}, ":1: the query is missing; found the keys text", "name it 'query'"),
        ({"query": "who", "positive": ""}, ":1: a passage: the text is empty", None),
        ({"query": 3, "positive": CAT}, ':1: field "query" must be a string', None),
        ({"query": "who", "positive": CAT, "label": 0.7}, "1 (relevant) or 0, found 0.7", "remove"),
        ({"query": "who", "positive": "d9"}, "every passage is a single word", "--corpus"),
        ({"query_text": "who", "positive_document_ids": ["d9"]}, "without a corpus", "--corpus"),
        (["who"], ":1: a list must be [query, positive", None),
        ({"query": "who", "positive": CAT, "thought": "x <emb_token>"}, "<emb_token>", "delete"),
        ("who", "expected an object or a list, found str", None),
    ],
)
def test_a_bad_line_is_named_with_a_remedy(tmp_path, row, message, hint):
    with pytest.raises(DataError) as caught:
        read_pairs([write(tmp_path / "pairs.jsonl", row)])
    assert message in caught.value.message
    assert hint is None or hint in str(caught.value.hint)


def test_an_id_that_the_corpus_lacks_is_an_error(tmp_path):
    path = write(tmp_path / "pairs.jsonl", {"query": "who", "positive": "d9"})
    with pytest.raises(DataError, match="names the document 'd9', which the corpus does not have"):
        read_pairs([path], CORPUS)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("pairs.txt", "who\tcat\n", "unknown format"),
        ("pairs.jsonl", "", "has no pair"),
        ("pairs.jsonl", '{"query": "q"\n', ":1: malformed JSON"),
        ("pairs.csv", "query,positive\nwho,a cat, that purrs\n", ":2: the row has more than 2"),
        ("pairs.parquet", "no table", "cannot be read as Parquet"),
    ],
)
def test_a_file_that_cannot_be_read(tmp_path, name, content, message):
    path = tmp_path / name
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_pairs([path])


def test_a_folder_is_no_file_of_pairs(tmp_path):
    with pytest.raises(DataError, match="is a folder"):
        read_pairs([tmp_path])


def test_one_id_for_two_queries_is_an_error(tmp_path):
    path = write(
        tmp_path / "pairs.jsonl",
        {"query_id": "1", "query": "who purrs", "positive": CAT},
        {"query_id": "1", "query": "who barks", "positive": DOG},
    )
    with pytest.raises(DataError, match="belongs to two queries"):
        read_pairs([path])
