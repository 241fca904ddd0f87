import math
import unicodedata
from dataclasses import replace

import pytest
import Stemmer

from t1_jax.errors import ConfigError, DataError
from t1_jax.retrieval import BM25, Collection, Document, Query
from t1_jax.retrieval.stemming import stem


def test_it_finds_the_document_that_shares_the_stem(collection: Collection):
    run = BM25.build(collection).search(collection.queries, 10)
    assert next(iter(run["q1"])) == "cat"
    assert next(iter(run["q2"])) == "dog"
    assert list(run["q3"]) == ["a fish"]


def test_scores_follow_the_formula():
    documents = (Document(id="a", text="red red blue"), Document(id="b", text="green"))
    collection = Collection(name="c", documents=documents, queries=(), qrels={})
    run = BM25.build(collection, k1=1.2, b=0.5).search([Query(id="q", text="red reds")], 10)
    idf = math.log(1 + (2 - 1 + 0.5) / (1 + 0.5))
    weight = idf * 2 / (2 + 1.2 * (1 - 0.5 + 0.5 * 3 / 2))
    assert run == {"q": {"a": pytest.approx(2 * weight, rel=1e-6)}}


def test_excluded_documents_leave_before_the_cut(collection: Collection):
    query = Query(id="q", text="cat and mice")
    bm25 = BM25.build(collection)
    assert list(bm25.search([query], 1)["q"]) == ["cat"]
    assert list(bm25.search([query], 1, {"q": frozenset({"cat"})})["q"]) == ["mouse"]


def test_ties_go_by_id_descending():
    documents = tuple(Document(id=key, text="same words") for key in ("1", "3", "2"))
    collection = Collection(name="c", documents=documents, queries=(), qrels={})
    bm25 = BM25.build(collection)
    assert list(bm25.search([Query(id="q", text="words")], 2)["q"]) == ["3", "2"]
    assert list(bm25.search([Query(id="q", text="words")], 10**12)["q"]) == ["3", "2", "1"]


def test_queries_without_a_known_word_find_nothing(collection: Collection):
    queries = [Query(id="stop", text="the and of"), Query(id="new", text="xylophone")]
    assert BM25.build(collection).search(queries, 5) == {"stop": {}, "new": {}}


TEXTS = {
    "zh": "北京是中华人民共和国的首都",
    "zh2": "上海的猫很多",
    "ja": "東京タワーは東京都港区にある電波塔です",
    "th": "กรุงเทพมหานครเป็นเมืองหลวงของประเทศไทย",
    "ko": "서울은 대한민국의 수도이다",
    "hi": "दिल्ली भारत की राजधानी है",
    "c": "The language C has pointers.",
    "r": "The language R has vectors; see R's manual.",
}


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("中国的首都", ["zh"]),
        ("猫", ["zh2"]),
        ("東京タワーの場所", ["ja"]),
        ("ﾀﾜｰ", ["ja"]),  # half-width
        ("เมืองหลวงของไทย", ["th"]),
        ("대한민국", ["ko"]),
        (unicodedata.normalize("NFD", "서울"), ["ko"]),
        ("राजधानी", ["hi"]),
        ("C", ["c"]),
        ("R?", ["r"]),
    ],
)
def test_scripts_without_spaces_and_one_letter_queries(query: str, found: list[str]):
    documents = tuple(Document(id=name, text=text) for name, text in TEXTS.items())
    collection = Collection(name="c", documents=documents, queries=(), qrels={})
    run = BM25.build(collection).search([Query(id="q", text=query)], 10)
    assert list(run["q"])[: len(found)] == found
    assert set(found) <= set(run["q"])


def test_english_terms_are_those_of_bm25s():
    import bm25s

    texts = ["It's a test of C++17's std::vector<T>, isn't it? under_score x1", "Fishes swim.", "É"]
    assert stem(texts) == bm25s.tokenize(
        texts,
        stopwords="en",
        stemmer=Stemmer.Stemmer("english"),
        return_ids=False,
        show_progress=False,
    )


def test_accented_and_mixed_words_stay_whole():
    assert stem(["naïve café", "naïve café", "Pythonで書く"]) == [
        ["naïv", "café"],
        ["naïv", "café"],
        ["python", "で書", "書く"],
    ]


def test_documents_without_words_are_carried_along(collection: Collection):
    silent = replace(collection, documents=(Document(id="!", text="!?"), *collection.documents))
    assert next(iter(BM25.build(silent).search(collection.queries, 1)["q1"])) == "cat"
    with pytest.raises(DataError, match="documents of pets contain no word"):
        BM25.build(Collection(name="pets", documents=silent.documents[:1], queries=(), qrels={}))


@pytest.mark.parametrize("parameters", [{"k1": -1.0}, {"b": 1.5}, {"b": -0.1}])
def test_parameters_out_of_range_are_refused(collection: Collection, parameters: dict):
    with pytest.raises(ConfigError, match="k1 >= 0 and 0 <= b <= 1"):
        BM25.build(collection, **parameters)


def test_no_debug_messages_whoever_else_sets_up_logging(collection: Collection, caplog):
    BM25.build(collection)
    assert not caplog.records
