import json

import pytest

from t1_jax.retrieval import load_collection
from t1_jax.retrieval.validation import UNKNOWN_DOCUMENT


@pytest.fixture
def flawed(tmp_path):
    """A collection with one flaw of each kind that check looks for."""
    folder = tmp_path / "flawed"
    (folder / "qrels").mkdir(parents=True)
    documents = [("d1", "A cat purrs."), ("d2", "a  CAT purrs."), ("d3", "A dog barks loudly."),
                 ("a b", "A fish swims."), ("a_b", "A bird flies."), ("void", "")]  # fmt: skip
    queries = [("q1", "who purrs like that in the house"),
               ("q2", "WHO  purrs like that in the house"),
               ("d3", "who barks"), ("q4", "A fish swims."), ("q5", "who is nobody"),
               ("q6", "who purrs like that in the house?")]  # fmt: skip
    for name, rows in (("corpus", documents), ("queries", queries)):
        lines = [json.dumps({"_id": key, "text": text}) + "\n" for key, text in rows]
        (folder / f"{name}.jsonl").write_text("".join(lines))
    head = "query-id\tcorpus-id\tscore\n"
    test = "q1\td1\t1\nq2\td1\t1\nd3\td3\t1\nq4\ta b\t1\nq5\td1\t0\nq4\tgone\t1\n"
    (folder / "qrels" / "test.tsv").write_text(head + test)
    (folder / "qrels" / "train.tsv").write_text(head + "q6\td1\t1\n")
    return folder


def test_check_counts_every_kind_of_flaw(t1, flawed):
    answer = t1("collection", "check", flawed, "--json")
    assert answer.code == 0, answer.err
    assert answer.json["documents"] == 5
    test = answer.json["splits"]["test"]
    assert (test["queries"], test["qrels"], test["bm25_without_result"]) == (5, 6, 1)
    assert 0.5 < test["bm25"]["nDCG@10"] < 1
    assert answer.json["findings"] == {
        "documents with the text of an earlier one": 1,
        "document ids that clash in TREC files, where spaces become _": 1,
        "documents without title and text (dropped) in test": 1,
        f"{UNKNOWN_DOCUMENT} (kept for scores, as in trec_eval) in test": 1,
        "queries with the id of a document (see exclude_same_id of `t1 evaluate`) in test": 1,
        "queries with the text of a document of another id in test": 1,
        "queries with the text of an earlier one in test": 1,
        "queries without relevant document, which cannot be scored in test": 1,
        "documents without title and text (dropped) in train": 1,
        "queries of test that nearly duplicate one of train": 2,
    }
    assert "1 document with the text of an earlier one" in answer.err


def test_check_of_a_sound_collection(t1, pets):
    answer = t1("collection", "check", pets)
    assert answer.code == 0, answer.err
    assert "no flaws found" in answer.out


def test_split_puts_equal_queries_together(t1, flawed, pets, tmp_path):
    out = tmp_path / "out"
    answer = t1("collection", "split", flawed, "-o", out, "validation=0", "test=0.4", "--json")
    assert answer.code == 2
    assert "--lenient" in answer.err
    answer = t1("collection", "split", flawed, "-o", out, "validation=0.0", "test=0.4", "--lenient",
                "--json")  # fmt: skip
    assert answer.code == 0, answer.err
    splits = {name: {q.id for q in load_collection(out, name, lenient=True).queries}
              for name in answer.json["queries"]}  # fmt: skip
    assert set.union(*splits.values()) == {"q1", "q2", "d3", "q4", "q5", "q6"}
    assert any({"q1", "q2", "q6"} <= ids for ids in splits.values())
    answer = t1("collection", "split", pets, "-o", out)
    assert answer.code == 2
    assert "already exists" in answer.err
    answer = t1("collection", "split", pets, "-o", tmp_path / "p", "tset=0.5")
    assert "did you mean 'test'?" in answer.err
