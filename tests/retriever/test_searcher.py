from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import ConfigError, DataError, WeightsError
from t1_jax.retrieval import BM25, Collection, Document, Query, build_index
from t1_jax.retriever import T1, Searcher, Verification, verify_run

TEXTS = {
    "a": "Green tea is steeped at 80 degrees. It is bitter otherwise.",
    "b": "The sky scatters short wavelengths.",
    "c": "A cat hunts mice.",
}
DOCUMENTS = {name: Document(id=name, text=text) for name, text in TEXTS.items()}
QUERIES = Collection(
    name="queries",
    documents=(DOCUMENTS["c"],),
    queries=(Query(id="q", text="why is the tea bitter"), Query(id="r", text="short sky")),
    qrels={},
    excluded={"r": frozenset({"c"})},
)


@pytest.fixture(scope="module")
def parts(tiny_t1: T1):
    corpus = Collection(name="x", documents=tuple(DOCUMENTS.values()), queries=(), qrels={})
    vectors = tiny_t1.encode_document(list(TEXTS.values()))
    return {
        "bm25": BM25.build(corpus),
        "index": build_index("numpy", list(TEXTS), vectors),
        "model": tiny_t1,
    }


def test_bm25_alone_needs_no_model(parts):
    searcher = Searcher(DOCUMENTS, bm25=parts["bm25"])
    assert searcher.ranking == "bm25"
    results = searcher.search(QUERIES, 2)
    (hit,) = searcher.hits(results, "q", "why is the tea bitter")
    assert (hit.id, hit.cosine, results.thoughts) == ("a", None, [])
    assert hit.score == hit.bm25
    assert hit.snippet is not None
    assert hit.snippet.text == "Green tea is steeped at 80 degrees."


def test_vectors_alone_are_those_of_the_index(parts):
    searcher = Searcher(DOCUMENTS, index=parts["index"], model=parts["model"])
    assert searcher.ranking == "dense"
    results = searcher.search(QUERIES, 3, think=False)
    vectors = parts["model"].encode_query([q.text for q in QUERIES.queries], think=False)
    cosines = vectors @ parts["index"].vectors.T
    for name, score in results.run["q"].items():
        assert score == pytest.approx(cosines[0, list(TEXTS).index(name)], abs=1e-5)
    assert set(results.run["r"]) == {"a", "b"}
    assert all(hit.bm25 is None for hit in searcher.hits(results, "q", "tea"))


def test_a_hybrid_has_the_scores_of_both_and_the_thoughts(parts):
    searcher = Searcher(DOCUMENTS, **parts)
    assert searcher.ranking == "hybrid"
    results = searcher.search(QUERIES, 2, max_thought_tokens=4)
    assert [len(group) for group in results.thoughts] == [1, 1]
    hits = searcher.hits(results, "q", "why is the tea bitter")
    assert len(hits) == 2
    by_id = {hit.id: hit for hit in hits}
    assert by_id["a"].bm25 is not None
    assert by_id["a"].cosine is not None
    assert "c" not in results.run["r"]
    scores = [hit.score for hit in hits]
    assert scores == sorted(scores, reverse=True)


def test_a_given_thought_replaces_the_sampled_one(parts):
    searcher = Searcher(DOCUMENTS, index=parts["index"], model=parts["model"])
    one = Collection(name="q", documents=(), queries=QUERIES.queries[:1], qrels={})
    runs = [
        searcher.search(one, 3, thoughts=[text]).scores["cosine"]["q"]
        for text in ("bitter tea", "a blue sky", "bitter tea")
    ]
    assert runs[0] == runs[2] != runs[1]
    assert np.isfinite(list(runs[0].values())).all()


def test_the_sentence_matches_the_thought_about_its_own_query(parts):
    searcher = Searcher(DOCUMENTS, index=parts["index"], model=parts["model"])
    results = searcher.search(QUERIES, 3, thoughts=["bitter otherwise", "steeped green tea"])
    shown = [
        hit.sentence
        for query_id in ("q", "r")
        for hit in searcher.hits(results, query_id, "zzz")
        if hit.id == "a"
    ]
    assert shown == ["It is bitter otherwise.", "Green tea is steeped at 80 degrees."]
    assert results.thought_texts("r") == ("steeped green tea",)


def test_one_query_is_answered_as_in_a_collection(parts):
    searcher = Searcher(DOCUMENTS, **parts, query_options={"instruction": "Find it"})
    assert repr(searcher) == "Searcher(3 documents, hybrid)"
    text = QUERIES.queries[0].text
    hits = searcher.search(text, 2, max_thought_tokens=4)
    one = Collection(name="q", documents=(), queries=QUERIES.queries[:1], qrels={})
    results = searcher.search(one, 2, max_thought_tokens=4, instruction="Find it")
    assert {hit.id: hit.score for hit in hits} == results.run["q"]
    assert hits.thoughts == (results.thoughts[0][0].text,)
    assert hits.ranking == "hybrid"
    given = searcher.search(text, thoughts="bitter tea")
    assert (len(given), given.thoughts) == (3, ("bitter tea",))
    assert searcher.search(text, think=False).thoughts == ()
    other = searcher.search(text, 2, max_thought_tokens=4, prompt="Find another")
    assert [hit.cosine for hit in other] != [hit.cosine for hit in hits]


@pytest.mark.parametrize(
    ("query", "k", "problem"), [(" ", 3, "blank|empty"), ("tea", 0, "k must be at least 1")]
)
def test_one_query_that_cannot_be_asked(parts, query, k, problem):
    for searcher in (Searcher(DOCUMENTS, bm25=parts["bm25"]), Searcher(DOCUMENTS, **parts)):
        with pytest.raises(DataError, match=problem):
            searcher.search(query, k, **({} if searcher.ranking == "bm25" else {"think": False}))


def test_parts_that_do_not_make_a_search(parts):
    for given in ({}, {"index": parts["index"]}, {"model": parts["model"], "bm25": parts["bm25"]}):
        with pytest.raises(ConfigError, match="index together with its model"):
            Searcher(DOCUMENTS, **given)


def test_verified_vectors_keep_their_cosines_and_are_cut_after_they_are_reordered(parts):
    searcher = Searcher(DOCUMENTS, index=parts["index"], model=parts["model"])
    verify = Verification(k=3, weight=5.0)
    plain = searcher.search(QUERIES, 3, think=False, instruction="Find it")
    results = searcher.search(QUERIES, 1, verify=verify, think=False, instruction="Find it")
    expected = verify_run(
        parts["model"], plain.run, QUERIES.queries, DOCUMENTS, verify, instruction="Find it"
    )
    for query_id in ("q", "r"):
        assert list(results.run[query_id]) == list(expected[query_id])[:1]
    (hit,) = searcher.hits(results, "q", "why is the tea bitter")
    assert hit.cosine == plain.run["q"][hit.id]
    assert hit.score != hit.cosine


def test_a_hybrid_fuses_the_verified_ranking(parts):
    searcher = Searcher(DOCUMENTS, **parts)
    verify = Verification(k=2, weight=50.0)
    plain, verified = (
        searcher.search(QUERIES, 3, verify=how, think=False).run["q"] for how in (None, verify)
    )
    assert plain.keys() == verified.keys()
    assert plain != verified


def test_every_pass_embeds_with_the_same_instruction(parts, monkeypatch):
    """sentence-transformers' names for task and instruction are those of all passes."""
    asked: list[tuple[str | None, str | None]] = []
    model = parts["model"]
    for name in ("encode_query", "score_thoughts"):
        method = getattr(model, name)

        def noted(*args, method=method, **options):
            asked.append((options.get("task"), options.get("instruction")))
            return method(*args, **options)

        monkeypatch.setattr(model, name, noted)
    searcher = Searcher(DOCUMENTS, query_options={"instruction": "Find it"}, **parts)
    searcher.search("tea", 2, verify=Verification(k=2), max_thought_tokens=2)
    assert set(asked) == {(None, "Find it")}
    asked.clear()
    searcher.search("tea", 2, verify=Verification(k=2), max_thought_tokens=2, prompt="Find more")
    assert set(asked) == {(None, "Find more")}
    asked.clear()
    searcher.search("tea", 2, verify=Verification(k=2), max_thought_tokens=2, prompt_name="cwe")
    assert set(asked) == {("cwe", None)}


def test_what_would_do_nothing_is_an_error(parts, tmp_path):
    lexical = Searcher(DOCUMENTS, bm25=parts["bm25"])
    with pytest.raises(ConfigError, match="BM25 uses no model, so candidates, thoughts would do"):
        lexical.search("tea", candidates=2, thoughts="steeped")
    vectors = Searcher({}, index=parts["index"], model=parts["model"])
    with pytest.raises(ConfigError, match="constrained and verify need titles of documents"):
        vectors.search("tea", constrained=True, verify=Verification())
    with pytest.raises(ConfigError, match="BM25 uses no model, so model, task would do nothing"):
        Searcher.open(tmp_path, ranking="bm25", model="m", task="cwe")


def test_a_model_without_a_checkpoint_cannot_keep_an_index(tiny_t1: T1, tmp_path: Path):
    (tmp_path / "tea.md").write_text("Green tea is bitter.\n")
    with pytest.raises(WeightsError, match=r"hint: load it with T1\.load"):
        tiny_t1.search(tmp_path, "tea")
