import gzip
import json
import shutil

import pytest

from t1_jax.retrieval import read_run


@pytest.fixture
def how(base_model):
    return ("-m", base_model, "--dtype", "float32", "--max-thought-tokens", 4)


def test_documents_with_titles_and_thoughts(t1, pets_index, how):
    answer = t1("search", pets_index, "who purrs?", "-k", 3, *how, "--json")
    assert answer.code == 0, answer.err
    results = answer.json["results"]
    assert [result["rank"] for result in results] == [1, 2, 3]
    assert all(result["title"] == result["id"].title() for result in results)
    scores = [result["score"] for result in results]
    assert scores == sorted(scores, reverse=True)
    assert len(answer.json["thoughts"]) == 1
    assert "thought: " in answer.err
    assert answer.json["ranking"] == "dense"


def test_a_document_finds_itself_without_thinking(t1, pets_index, how):
    # no thought: --max-thought-tokens is for thoughts alone and is refused with it
    answer = t1("search", pets_index, "x", "--no-think", *how)
    assert answer.code == 2
    answer = t1("search", pets_index, "A dog barks", "--no-think", *how[:-2], "--json")
    assert answer.code == 0, answer.err
    assert answer.json["thoughts"] == []
    assert len(answer.json["results"]) == 10


def test_the_nearest_documents_are_reordered_on_request(t1, pets_index, how, tmp_path):
    plain = t1("search", pets_index, "who purrs?", *how, "--json").json["results"]
    options = ("--verify", 4, "--verify-weight", 9)
    answer = t1("search", pets_index, "who purrs?", *options, *how, "--json")
    assert answer.code == 0, answer.err
    results = answer.json["results"]
    assert {item["id"] for item in results[:4]} == {item["id"] for item in plain[:4]}
    assert [item["id"] for item in results[4:]] == [item["id"] for item in plain[4:]]
    assert [item["score"] for item in results] != [item["score"] for item in plain]
    assert sorted(item["cosine"] for item in results) == sorted(item["cosine"] for item in plain)


def test_thoughts_over_candidates_and_thoughts_that_are_titles(t1, pets, how, tmp_path):
    index = tmp_path / "over"
    settings = ("-c", pets, *how[:4], "--preset", "t1-candidates")
    built = t1("index", "build", index, *settings)
    assert built.code == 0, built.err
    options = ("who purrs?", "-k", 3, *how[-2:], "--json")
    plain, over, constrained = (
        t1("search", index, *options, *given)
        for given in ((), ("--candidates", 4), ("--candidates", 4, "--constrained"))
    )
    assert over.code == constrained.code == 0, over.err + constrained.err
    scores = [[hit["score"] for hit in answer.json["results"]] for answer in (plain, over)]
    assert scores[0] != scores[1]
    (thought,) = constrained.json["thoughts"]
    lines = (pets / "corpus.jsonl").read_text(encoding="utf-8").splitlines()
    assert thought["text"] in {json.loads(line)["title"] for line in lines}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--candidates", 4), "the prompts 't1' show no candidates"),
        (("--candidates", 4, "--no-think"), "--no-think has no thought"),
        (("--constrained", "--no-think"), "--constrained chooses a thought"),
        (("--constrained", "--thought", "Cat"), "--constrained chooses a thought"),
        (("--candidates", 4, "--constrained", "--bm25"), "so --candidates, --constrained would do"),
    ],
)
def test_candidates_that_make_no_sense(t1, pets_index, given, named, no_weights):
    answer = t1("search", pets_index, "who purrs?", *given)
    assert answer.code == 2
    assert named in answer.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("--verify-weight", 0.1), "--verify-weight needs --verify"),
        (("--verify", 1), "--verify"),
        (("--verify", 4, "--verify-weight", -1), "must be positive"),
        (("--verify", 4, "--bm25"), "so --verify would do nothing"),
    ],
)
def test_options_of_a_verification_that_make_no_sense(t1, pets_index, given, named):
    answer = t1("search", pets_index, "who purrs?", *given)
    assert answer.code == 2
    assert named in answer.err


@pytest.fixture
def no_weights(monkeypatch):
    """Fails if weights are read."""

    def load(*_: object, **__: object) -> None:
        raise AssertionError("weights were read")

    monkeypatch.setattr("t1_jax.retriever.loading.load_opened", load)


def test_another_encoder_is_refused_with_both_fingerprints(
    t1, pets_index, base_model, tmp_path, monkeypatch
):
    """Unless it gives the embeddings that the index stores, as a model that is exported again."""
    how = ("--max-thought-tokens", 4)
    assert t1("import", base_model, tmp_path / "again", "--dtype", "float32").code == 0
    answer = t1("search", pets_index, "who purrs?", "-m", tmp_path / "again", *how)
    assert answer.code == 0, answer.err
    assert "gives the same embeddings: the index is accepted" in answer.err
    monkeypatch.setattr("t1_jax.retriever.search_source.lowest_canary_cosine", lambda *_: 0.99)
    answer = t1("search", pets_index, "who purrs?", "-m", tmp_path / "again", *how)
    assert answer.code == 2
    assert answer.err.count("<- differs") == 1
    assert "cosine of 0.9900" in answer.err


def test_an_index_of_other_prompts_is_refused_before_weights_are_read(
    t1, pets_index, how, tmp_path, no_weights
):
    shutil.copytree(pets_index, tmp_path / "i")
    path = tmp_path / "i" / "manifest.json"
    stated = json.loads(path.read_text())["fingerprint"]["prompt"]
    path.write_text(path.read_text().replace(stated, "ab" * 32))
    answer = t1("search", tmp_path / "i", "who purrs?", *how)
    assert answer.code == 2
    assert stated in answer.err
    assert "ab" * 32 in answer.err
    assert answer.err.count("<- differs") == 1


def test_the_index_says_how_queries_are_put(t1, base_model, pets, tmp_path):
    """A name never chooses the instruction: not that of a folder, nor that of a file."""
    texts = tmp_path / "biology.jsonl"
    texts.write_text((pets / "corpus.jsonl").read_text())
    common = ("index", "build", "-m", base_model, "--dtype", "float32", "--json")
    plain = t1(*common, tmp_path / "biology", "-i", texts)
    assert plain.code == 0, plain.err
    assert plain.json["encoding"]["instruction"].startswith("Given a query, retrieve relevant")
    asked = t1(*common, tmp_path / "posts", "-i", texts, "--task", "biology")
    assert asked.json["encoding"]["instruction"].startswith("Given a biology post")
    answer = t1("search", tmp_path / "posts", "who purrs?", "--max-thought-tokens", 4, "--json")
    assert answer.code == 0, answer.err
    assert "query instruction: Given a biology post" in answer.err
    for given, named in (
        (("--dtype", "bfloat16"), "--dtype bfloat16: the index has float32"),
        (("--task", "economics"), "the instruction 'Given a economics post"),
        (("--instruction", "Find it"), "the instruction 'Find it'"),
        (("--preset", "t1-compact"), "the index has 't1'"),
    ):
        answer = t1("search", tmp_path / "posts", "who purrs?", *given)
        assert answer.code == 2
        assert named in answer.err
    assert (
        t1(
            "search", tmp_path / "posts", "who?", "--task", "biology", "--max-thought-tokens", 4
        ).code
        == 0
    )


def _ranked(run, query_id):
    return sorted(run[query_id], key=lambda name: -run[query_id][name])


def test_many_queries_become_a_run(t1, pets, pets_index, base_model, tmp_path):
    queries, out = tmp_path / "queries.jsonl.gz", tmp_path / "run.trec"
    with gzip.open(queries, "wt") as file:
        file.write((pets / "queries.jsonl").read_text())
    how = ("--max-thought-tokens", 4, "--json")
    answer = t1("search", pets_index, "--queries", queries, "-o", out, *how)
    assert answer.code == 0, answer.err
    run = read_run(out)
    assert {name: len(scores) for name, scores in run.items()} == dict.fromkeys(run, 12)
    again = tmp_path / "again.trec"
    assert t1("search", pets_index, "-q", pets, "-k", 3, "-o", again, *how).code == 0
    best = {name: _ranked(run, name)[:3] for name in run}
    found = read_run(again)
    assert {name: _ranked(found, name) for name in found} == best
    scored = t1("evaluate", "--run", again, "-c", pets, "bootstrap_samples=50", "--json")
    assert scored.code == 0, scored.err


def test_bm25_needs_no_model(t1, pets, pets_index, tmp_path, no_weights):
    for source in (pets, pets / "corpus.jsonl", pets_index):
        answer = t1("search", source, "who barks at the house", "--bm25", "--json")
        assert answer.code == 0, answer.err
        assert answer.json["results"][0]["id"] == "dog"
        assert answer.json["results"][0]["title"] == "Dog"
    out = tmp_path / "bm25.trec"
    answer = t1("search", pets, "--queries", pets, "--bm25", "-o", out, "--json")
    assert answer.json == {
        "output": str(out), "queries": 4, "queries_without_result": [], "tag": "bm25"
    }  # fmt: skip
    answer = t1("search", pets, "x", "--bm25", "-m", "some-model", "--max-thought-tokens", 3)
    assert answer.code == 2
    assert "BM25 uses no model, so --model, --max-thought-tokens would do nothing" in answer.err


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("x", "-q", "PETS", "-o", "run"), "give either one query"),
        (("-q", "PETS"), "--queries and --output belong together"),
        (("x", "-o", "run"), "--queries and --output belong together"),
        (("-q", "PETS", "-o", "PETS"), "is a folder, not a file"),
        (("-q", "PETS", "-o", "PETS/corpus.jsonl"), "already exists"),
        (("-q", "PETS", "-o", "PETS/corpus.jsonl/run"), "corpus.jsonl is not a folder"),
        (("-q", "PETS", "-o", "run", "--split", "dev"), "has no split 'dev'"),
        (("-q", "nowhere", "-o", "run"), "neither a folder nor a known collection"),
        (("-q", "no.jsonl", "-o", "run"), "no.jsonl does not exist"),
        (("x", "--max-thought-tokens", "0"), "must be at least 1"),
        (("x", "--max-thought-tokens", "5000"), "the model has 4096"),
        (("x", "-n", "0"), "must be at least 1"),
        (("x", "--fusion", "rrf"), "combines BM25 with vectors"),
        (("x", "-m", "nowhere"), "neither a path nor a known model"),
        (("\udcff",), "surrogate"),
    ],
)
def test_mistakes_are_found_before_weights_are_read(
    t1, pets, pets_index, tmp_path, monkeypatch, no_weights, given, named
):
    monkeypatch.chdir(tmp_path)
    given = [word.replace("PETS", str(pets)) for word in given]
    answer = t1("search", pets_index, *given)
    assert answer.code == 2
    assert named in answer.err


def test_k_beyond_the_index_and_ids_that_collide(t1, pets, pets_index, tmp_path):
    answer = t1("search", pets, "who hunts at night", "--bm25", "-k", 10**12, "--json")
    assert {result["id"] for result in answer.json["results"]} == {"owl", "cat"}
    answer = t1("search", pets_index, "who?", "-k", 10**12, "--max-thought-tokens", 4, "--json")
    assert len(answer.json["results"]) == 12
    queries = tmp_path / "q.jsonl"
    queries.write_text('{"_id": "a b", "text": "x"}\n{"_id": "a_b", "text": "y"}\n')
    answer = t1("search", pets_index, "-q", queries, "-o", tmp_path / "run")
    assert answer.code == 2
    assert "both become 'a_b'" in answer.err


def test_an_empty_query_and_no_index(t1, pets_index, how, tmp_path):
    answer = t1("search", pets_index, "  ", *how)
    assert answer.code == 2
    assert "query 1 is empty" in answer.err
    answer = t1("search", tmp_path, "who?", *how)
    assert answer.code == 2
    assert "holds no text to search" in answer.err
    assert t1("search", pets_index, "who?", "-k", 0, *how).code == 2


def test_sampling_options_are_checked_before_a_model_is_opened(t1, pets_index, tmp_path):
    answer = t1("search", pets_index, "who purrs?", "-m", tmp_path / "none", "--temperature", "inf")
    assert answer.code == 2
    assert "temperature must lie between 0.01 and 100, or be 0 (greedy), got inf" in answer.err
