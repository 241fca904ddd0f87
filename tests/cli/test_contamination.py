import json

import pytest

from t1_jax.retrieval import load_collection, save_collection


@pytest.fixture
def pairs(tmp_path):
    """Two clean pairs; the second has a document of the collection as its negative."""
    path = tmp_path / "pairs.jsonl"
    rows = [
        {"query": "which planet is red", "positive": "Mars is the red planet."},
        {"query": "which is the largest ocean", "positive": "The Pacific is the largest ocean.",
         "negative": "Whale\nA whale dives in the deep sea."},
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_documents_are_named_and_queries_decide_on_the_exit_code(t1, pets, pairs):
    answer = t1("contamination", pairs, "-c", pets, "--json")
    assert answer.code == 0, answer.err
    found = answer.json["collections"]["pets/test"]
    assert found["counts"]["query"] == {"exact": 0, "near duplicate": 0, "n-gram": 0}
    assert found["counts"]["other document"]["exact"] == 1
    (match,) = found["matches"]
    assert (match["text_id"], match["part"]) == ("whale", "negative")
    query = load_collection(pets).queries[1].text
    with pairs.open("a") as file:
        file.write(json.dumps({"query": f"{query}?", "positive": "dogs", "thought": "bees"}) + "\n")
    answer = t1("contamination", pairs, "-c", pets)
    assert answer.code == 1
    assert "query 'q2', near duplicate" in answer.out
    assert "queries" in answer.out


def test_the_training_split_of_a_collection_is_training_data(t1, pets, tmp_path):
    test = load_collection(pets)
    save_collection({"train": test.with_queries(["q1"]), "test": test.with_queries(["q2"])},
                    tmp_path / "both")  # fmt: skip
    answer = t1("contamination", tmp_path / "both", "-c", tmp_path / "both", "-c", pets, "--json")
    assert answer.code == 1
    both, all_queries = answer.json["collections"].values()
    assert both["counts"]["query"]["exact"] == 0
    assert all_queries["counts"]["query"]["exact"] == 1
    answer = t1("contamination", pets, "-c", pets)
    assert answer.code == 2
    assert "has no split 'train'" in answer.err
    answer = t1("contamination", pets)
    assert answer.code == 2
    assert "add --collection" in answer.err
    answer = t1("contamination", pets, pets, "-c", pets)
    assert answer.code == 2
    assert "training data by itself" in answer.err
