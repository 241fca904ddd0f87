import pytest


@pytest.fixture
def how(base_model):
    return ("-m", base_model, "--dtype", "float32", "--budget", 4)


def test_documents_with_titles_and_thoughts(t1, pets_index, how):
    answer = t1("search", pets_index, "who purrs?", "-k", 3, *how, "--json",
                "--show-thought")  # fmt: skip
    assert answer.code == 0, answer.err
    results = answer.json["results"]
    assert [result["rank"] for result in results] == [1, 2, 3]
    assert all(result["title"] == result["id"].title() for result in results)
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len(answer.json["thoughts"]) == 1
    assert "[thought 0:" in answer.err


def test_a_document_finds_itself_without_thinking(t1, pets_index, how):
    # no thought: --budget is for thoughts alone and is refused with it
    answer = t1("search", pets_index, "x", "--no-think", *how)
    assert answer.code == 2
    answer = t1("search", pets_index, "A dog barks", "--no-think", *how[:-2], "--json")
    assert answer.code == 0, answer.err
    assert answer.json["thoughts"] == []
    assert len(answer.json["results"]) == 10


def test_another_encoder_is_refused_with_both_fingerprints(t1, pets_index, base_model):
    stated = t1("index", "info", pets_index, "--json").json["fingerprint"]["encoder"]
    answer = t1("search", pets_index, "who purrs?", "-m", base_model, "--dtype", "bfloat16")
    assert answer.code == 2
    assert stated in answer.err
    assert answer.err.count("<- differs") == 1
    assert "asked for" in answer.err


def test_another_collection_is_refused(t1, pets_index, how, tmp_path, pets):
    for name in ("queries.jsonl", "qrels/test.tsv"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text((pets / name).read_text())
    corpus = (pets / "corpus.jsonl").read_text().replace("purrs", "sleeps")
    (tmp_path / "corpus.jsonl").write_text(corpus)
    answer = t1("search", pets_index, "who purrs?", "-c", tmp_path, *how)
    assert answer.code == 2
    assert "data" in answer.err
    assert "<- differs" in answer.err


def test_an_empty_query_and_no_index(t1, pets_index, how, tmp_path):
    answer = t1("search", pets_index, "  ", *how)
    assert answer.code == 2
    assert "query 1 is empty" in answer.err
    answer = t1("search", tmp_path, "who?", *how)
    assert answer.code == 2
    assert "manifest.json" in answer.err
    assert t1("search", pets_index, "who?", "-k", 0, *how).code == 2
