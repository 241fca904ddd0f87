"""Candidates: titles of the nearest documents in a prompt, and what is never among them."""

import dataclasses

import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.retrieval import Collection, Document, Query, build_index
from t1_jax.retriever import (
    T1,
    CandidateTitles,
    Provenance,
    Searcher,
    nearest_candidates,
    open_model,
)
from t1_jax.retriever.thought_cache import ThoughtCache
from t1_jax.text import load_preset
from tests.retriever.tiny import with_provenance

LONG = " ".join(f"word{number}" for number in range(200))
DOCUMENTS = {
    document.id: document
    for document in (
        Document(id="a", title="Apple\npie", text="Red. Round."),
        Document(id="b", title="", text="A banana is yellow. It is bent."),
        Document(id="c", title="apple pie", text="Another text of the same title."),
        Document(id="d", title="Long", text=LONG),
        Document(id="e", title="Long again", text=LONG + "!"),
        Document(id="f", title="Fig", text="Sweet."),
    )
}


@pytest.fixture(scope="module")
def over(tiny_t1: T1, tiny_origin: Provenance) -> T1:
    """The tiny model with prompts that show candidates."""
    model = with_provenance(tiny_t1, tiny_origin)
    model.preset = load_preset("t1-candidates")
    return model


def test_titles_and_texts_are_shown_once_and_excluded_documents_never(tiny_t1: T1) -> None:
    titles = CandidateTitles(tiny_t1.tokenizer, DOCUMENTS)
    assert titles.distinct("acbdef", 4) == ["a", "b", "d", "f"]
    assert titles["b"] == "A banana is yellow."
    angles = np.arange(6) / 10
    index = build_index("numpy", list(DOCUMENTS), np.stack([np.cos(angles), np.sin(angles)], 1))
    query = np.array([[1.0, 0.0]], np.float32)
    banana = "A banana is yellow."
    assert nearest_candidates(titles, index, query, 2, [[]]) == [["Apple pie", banana]]
    assert nearest_candidates(titles, index, query, 2, [[0, 3]]) == [[banana, "apple pie"]]
    assert nearest_candidates(titles, index, query, 9, [[]]) == [
        ["Apple pie", banana, "Long", "Fig"]
    ]
    with pytest.raises(ConfigError, match="at least 1"):
        nearest_candidates(titles, index, query, 0, [[]])
    with pytest.raises(ConfigError, match="document 'x' has no text here"):
        titles.distinct("x", 1)


def test_passages_of_one_file_do_not_crowd_out_other_titles(tiny_t1: T1) -> None:
    """Thirty passages share a title; the other titles come after all of them."""
    documents = {
        f"{n:02}": Document(
            id=f"{n:02}", title="notes.txt" if n < 30 else f"Title {n}", text=str(n)
        )
        for n in range(40)
    }
    titles = CandidateTitles(tiny_t1.tokenizer, documents)
    angles = np.arange(40) / 40
    index = build_index("numpy", list(documents), np.stack([np.cos(angles), np.sin(angles)], 1))
    queries = np.array([[1.0, 0.0], [np.cos(1.0), np.sin(1.0)]], np.float32)
    near, far = nearest_candidates(titles, index, queries, 4, [[], []])
    assert near == ["notes.txt", "Title 30", "Title 31", "Title 32"]
    assert far == ["Title 39", "Title 38", "Title 37", "Title 36"]
    assert len(nearest_candidates(titles, index, queries[:1], 20, [[]])[0]) == 11


def test_a_thought_follows_the_candidates_and_is_cached_with_them(over: T1, tmp_path) -> None:
    cache = ThoughtCache(tmp_path / "thoughts.sqlite")
    model = with_provenance(over, over.provenance, thought_cache=cache)  # type: ignore[arg-type]
    asked: dict = {"return_thoughts": True, "max_thought_tokens": 4}
    plain, _ = model.encode_query(["red fruit"], **asked)
    shown, thoughts = model.encode_query(["red fruit"], candidates=[["Apple", "Fig"]], **asked)
    other, _ = model.encode_query(["red fruit"], candidates=[["Fig", "Apple"]], **asked)
    assert (cache.hits, cache.misses) == (0, 3)
    again, same = model.encode_query(["red fruit"], candidates=[[" Apple\n", "Fig", ""]], **asked)
    assert (cache.hits, cache.misses) == (1, 3)
    np.testing.assert_array_equal(again, shown)
    assert same[0][0].text == thoughts[0][0].text
    assert not np.allclose(shown, plain, atol=1e-3)
    assert not np.allclose(shown, other, atol=1e-3)
    without, _ = model.encode_query(["red fruit"], candidates=[[]], **asked)
    np.testing.assert_array_equal(without, plain)
    given = model.encode_query(["red fruit"], candidates=[["Apple"]], thoughts=["Apple"])
    assert np.linalg.norm(given) == pytest.approx(1, abs=1e-5)


def test_a_search_shows_what_the_query_finds_without_a_thought(over: T1) -> None:
    ids = list(DOCUMENTS)
    vectors = over.encode_document([document.full_text for document in DOCUMENTS.values()])
    index = build_index("numpy", ids, vectors)
    queries = Collection(
        name="q",
        documents=tuple(DOCUMENTS.values()),
        queries=(Query(id="q", text="what is yellow"), Query(id="r", text="what is red")),
        qrels={},
        excluded={"r": frozenset({"a", "b"})},
    )
    searcher = Searcher(DOCUMENTS, index=index, model=over)
    results = searcher.search(queries, 6, candidates=3, max_thought_tokens=4)
    texts = [query.text for query in queries.queries]
    first = over.encode_query(texts, think=False)
    titles = CandidateTitles(over.tokenizer, DOCUMENTS)
    shown = nearest_candidates(titles, index, first, 3, [[], [0, 1]])
    assert [len(group) for group in shown] == [3, 3]
    assert {titles["a"], titles["b"]}.isdisjoint(shown[1])
    expected = over.encode_query(texts, candidates=shown, max_thought_tokens=4)
    cosines = expected @ index.vectors.T
    for row, query in enumerate(queries.queries):
        for name, score in results.run[query.id].items():
            assert score == pytest.approx(cosines[row, ids.index(name)], abs=1e-5)
    with pytest.raises(ConfigError, match="does not think"):
        searcher.search(queries, 2, candidates=3, think=False)
    with pytest.raises(ConfigError, match="candidates need titles of documents"):
        Searcher({}, index=index, model=over).search(queries, 2, candidates=3)


def test_prompts_without_candidates_are_an_error(tiny_t1: T1) -> None:
    with pytest.raises(ConfigError, match="'t1' show no candidates"):
        tiny_t1.encode_query("x", candidates=[["a"]])
    assert dataclasses.asdict(tiny_t1.preset)["query_candidates_template"] == ""


def test_a_constrained_thought_is_a_title_and_is_cached_with_its_choices(
    over: T1, tmp_path
) -> None:
    cache = ThoughtCache(tmp_path / "thoughts.sqlite")
    model = with_provenance(over, over.provenance, thought_cache=cache)  # type: ignore[arg-type]
    titles = CandidateTitles(model.tokenizer, DOCUMENTS)
    choices = titles.choices(DOCUMENTS)
    shown = {titles[name] for name in DOCUMENTS}
    asked: dict = {"return_thoughts": True, "max_thought_tokens": 2, "n": 3}
    vectors, groups = model.encode_query(["red", "sweet"], choices=choices, **asked)
    assert {thought.text for group in groups for thought in group} <= shown
    model.encode_query(["red", "sweet"], **asked)
    again, _ = model.encode_query(["red", "sweet"], choices=titles.choices("abcdef"), **asked)
    assert (cache.hits, cache.misses) == (6, 12)
    np.testing.assert_array_equal(again, vectors)
    _, groups = model.encode_query(["red", "sweet"], choices=titles.choices("af"), **asked)
    assert {thought.text for group in groups for thought in group} <= {"Apple pie", "Fig"}
    with pytest.raises(ConfigError, match="apply only where thoughts are sampled"):
        model.encode_query("red", choices=choices, think=False)
    with pytest.raises(ConfigError, match="at least one text"):
        CandidateTitles(model.tokenizer, {}).choices([])


def test_a_constrained_search_thinks_in_titles(over: T1) -> None:
    vectors = over.encode_document([document.full_text for document in DOCUMENTS.values()])
    index = build_index("numpy", list(DOCUMENTS), vectors)
    asked = Collection(name="q", documents=(), queries=(Query(id="q", text="red"),), qrels={})
    searcher = Searcher(DOCUMENTS, index=index, model=over)
    titles = CandidateTitles(over.tokenizer, DOCUMENTS)
    for k in (0, 2):
        ((thought,),) = searcher.search(asked, 2, candidates=k, constrained=True).thoughts
        assert thought.text in {titles[name] for name in DOCUMENTS}


def test_a_saved_model_remembers_that_it_thinks_over_candidates(over: T1, tmp_path) -> None:
    over.save_pretrained(tmp_path / "model")
    opened = open_model(tmp_path / "model")
    assert opened.preset == over.preset
    assert opened.preset.shows_candidates
    opened.check_queries(["x"], max_thought_tokens=64)
    opened.check_queries(["x"], max_thought_tokens=64, candidates=4)
    with pytest.raises(ConfigError, match="up to 4.. tokens.*the model has 512") as error:
        opened.check_queries(["x"], max_thought_tokens=64, candidates=16)
    assert error.value.hint == "lower max_thought_tokens, or show fewer candidates"
    with pytest.raises(ConfigError, match="'t1' show no candidates"):
        open_model(tmp_path / "model", preset="t1").check_queries([], candidates=1)
