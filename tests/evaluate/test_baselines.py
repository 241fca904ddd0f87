from t1_jax.evaluate import EvaluationConfig, evaluate_baselines
from t1_jax.retrieval import BM25, BM25QS, Collection, Document, Query

COLLECTION = Collection(
    name="pets",
    documents=(
        Document(id="cat", text="Cats purr and purr."),
        Document(id="dog", text="Dogs bark at cats."),
    ),
    queries=(Query(id="q", text="which cats purr, purr?"),),
    qrels={"q": {"cat": 1}},
)


def test_both_kinds_of_bm25_have_a_row():
    config = EvaluationConfig(bm25qs=True, bootstrap_samples=10)
    rows = evaluate_baselines((), COLLECTION, config).rows
    assert [row.label for row in rows] == ["BM25", "BM25 (BRIGHT)"]
    for row, kind in zip(rows, (BM25, BM25QS), strict=True):
        assert row.run == kind.build(COLLECTION).search(COLLECTION.queries, 100)
