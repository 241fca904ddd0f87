import dataclasses

import numpy as np
import pytest

from t1_jax.errors import DataError
from t1_jax.evaluate import (
    BM25Baseline,
    EvaluationConfig,
    ModelFacts,
    evaluate_baseline,
    evaluate_baselines,
    evaluate_collection,
    evaluation_notes,
    scorable_queries,
    to_markdown,
)
from t1_jax.evaluate.protocol import ranks_in_run, score
from t1_jax.retrieval import Collection, Document, Query, Run, score_run
from tests.evaluate.toys import LetterModel, letters


def test_rows_stand_in_order_and_every_number_follows_from_the_vectors(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
):
    found = evaluate_collection(model, collection, config, facts=facts, split="test")
    assert [row.name for row in found.rows] == [
        "bm25",
        *(f"t1-{name}" for name in ("own", "no-think", "empty", "random", "repeated", "gold")),
    ]
    assert found.query_ids == ("q1", "q2", "q3")
    assert found.skipped_queries == 1
    assert found.title == "toys/test"
    row = found.row("t1-no-think")
    for query in found.collection.queries:
        expected = {
            document.id: float(letters(query.text) @ letters(document.full_text))
            for document in collection.documents
            if document.id not in collection.excluded.get(query.id, ())
        }
        assert row.run[query.id] == pytest.approx(expected, abs=1e-6)
    scores = score_run(row.run, found.collection.qrels, metrics=config.metrics)
    for metric in config.metrics:
        np.testing.assert_array_equal(
            row.values[metric], [scores.per_query[metric][name] for name in found.query_ids]
        )


def test_thinking_helps_the_query_that_needs_it_and_hurts_the_other(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
):
    found = evaluate_collection(model, collection, config, facts=facts)
    own, without = found.row("t1-own"), found.row("t1-no-think")
    assert own.relevant_ranks["q1"]["ball"] == 1
    assert without.relevant_ranks["q1"] == {"ball": 3, "car": 1}
    assert without.relevant_ranks["q2"]["doll"] == 1
    assert own.relevant_ranks["q2"]["doll"] == 3
    gains = own.values["nDCG@10"] - without.values["nDCG@10"]
    assert gains[0] > 0 > gains[1]


def test_documents_are_encoded_once_and_equal_texts_once(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
):
    (system,) = evaluate_collection(model, collection, config, facts=facts).systems
    encoded = [call for call in model.calls if "documents" in call]
    assert [call["ids"] for call in encoded] == [["ball", "car", "doll", "egg"]]
    assert (system.distinct_documents, system.truncated_documents) == (4, 1)


def test_excluded_documents_make_room_before_the_cut(
    model: LetterModel, collection: Collection, facts: ModelFacts
):
    config = EvaluationConfig(
        controls=("no-think",), top_k=100, metrics=("nDCG@10", "recall@10"), bootstrap_samples=10
    )
    row = evaluate_collection(model, collection, config, facts=facts).rows[-1]
    assert "copy" not in row.run["q1"]
    assert len(row.run["q1"]) == 4
    assert len(row.run["q2"]) == 5


def test_ranks_beyond_the_list_are_exact(facts: ModelFacts):
    documents = tuple(Document(id=f"d{n:02}", text="a" * 20 + "b" * n) for n in range(30))
    far = Collection(
        name="far",
        documents=documents,
        queries=(Query(id="q", text="aaaa"), Query(id="r", text="bb")),
        qrels={"q": {"d29": 1, "d01": 1}, "r": {"d29": 1}},
    )
    config = EvaluationConfig(
        controls=("no-think",), top_k=10, metrics=("nDCG@10", "recall@10"), bm25=False
    )
    (row,) = evaluate_collection(LetterModel(), far, config, facts=facts).rows
    assert row.relevant_ranks == {"q": {"d29": 30, "d01": 2}, "r": {"d29": 1}}
    assert "d29" not in row.run["q"]


def test_fewer_queries_are_drawn_by_the_seed_and_only_among_those_with_an_answer(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
):
    few = dataclasses.replace(config, max_queries=2)
    found = evaluate_collection(model, collection, few, facts=facts)
    assert len(found.query_ids) == 2
    assert "q4" not in found.query_ids
    assert found.skipped_queries == 2
    assert found.collection.qrels.keys() == set(found.query_ids)


def test_a_collection_without_answers_is_refused(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
):
    with pytest.raises(DataError, match="toys: no query has a relevant document"):
        evaluate_collection(model, dataclasses.replace(collection, qrels={}), config, facts=facts)


class _Backwards:
    name = "backwards"
    label = "Backwards"

    def retrieve(self, collection: Collection, k: int) -> Run:
        """Everything in reverse; the insertion order says nothing."""
        ids = [document.id for document in collection.documents][:k]
        return {
            query.id: {name: float(place) for place, name in enumerate(ids)}
            for query in collection.queries[:-1]
        }


def test_other_retrievers_get_a_row_and_a_query_they_miss_counts_nothing(
    model: LetterModel, collection: Collection, config: EvaluationConfig, facts: ModelFacts
):
    found = evaluate_collection(model, collection, config, facts=facts, baselines=[_Backwards()])
    row = found.rows[1]
    assert (row.name, row.system, row.missing) == ("backwards", None, ("q3",))
    assert row.values["nDCG@10"][2] == 0
    assert row.relevant_ranks == {"q1": {"ball": 4, "car": 3}, "q2": {"doll": 2}, "q3": {}}


def test_what_a_retriever_hands_over_is_cut_and_rid_of_excluded_documents(
    collection: Collection, facts: ModelFacts
):
    config = EvaluationConfig(top_k=10, metrics=("nDCG@10", "recall@10"), bm25=False)
    found = evaluate_baselines([_Backwards()], collection, config, split="test")
    (row,) = found.rows
    assert list(row.run["q1"]) == ["egg", "doll", "car", "ball"]
    assert (found.systems, found.skipped_queries, found.title) == ((), 1, "toys/test")
    assert to_markdown([found]).startswith("| Retriever | toys/test nDCG@10")


def test_bm25_finds_words(collection: Collection, config: EvaluationConfig):
    words = dataclasses.replace(
        collection,
        queries=(Query(id="q1", text="where is the cccc"),),
        qrels={"q1": {"car": 1}},
        excluded={"q1": frozenset({"copy"})},
    )
    row = evaluate_baseline(BM25Baseline(), words, config)
    assert list(row.run["q1"]) == ["car"]
    assert row.values["MRR"].tolist() == [1.0]


def test_ranks_follow_the_scores(collection: Collection):
    ranks = ranks_in_run({"q1": {"car": 0.1, "ball": 0.9}}, collection)
    assert ranks["q1"] == {"ball": 1, "car": 2}


@pytest.mark.parametrize("kind", ["numpy", "jax"])
def test_exact_back_ends_agree(
    model: LetterModel,
    collection: Collection,
    config: EvaluationConfig,
    facts: ModelFacts,
    kind: str,
):
    there = dataclasses.replace(config, index=kind, controls=("own",))
    found = evaluate_collection(model, collection, there, facts=facts)
    assert found.systems[0].index_recall_at_10 == 1
    assert found.row("t1-own").relevant_ranks["q1"]["ball"] == 1


def test_judgments_of_absent_documents_count_as_trec_eval_counts_them(collection: Collection):
    """By hand: q2 has two relevant documents and q4 one, of which the corpus has the doll alone."""
    lenient = dataclasses.replace(
        collection, absent_qrels={"q2": {"gone": 1}, "q4": {"gone": 1, "lost": 0}}
    )
    assert lenient.qrels_hash != collection.qrels_hash
    scorable = scorable_queries(lenient, EvaluationConfig())
    assert [query.id for query in scorable.queries] == ["q1", "q2", "q3", "q4"]
    run = {"q2": {"doll": 2.0, "ball": 1.0}, "q4": {"egg": 1.0}}
    values, missing = score(run, scorable, EvaluationConfig())
    assert values["recall@10"].tolist() == [0.0, 0.5, 0.0, 0.0]
    assert values["nDCG@10"][1] == pytest.approx(1 / (1 + 1 / np.log2(3)))
    assert missing == ("q1", "q3")


BASELINES_ONLY = EvaluationConfig(bm25=False, bootstrap_samples=50)


@dataclasses.dataclass(frozen=True)
class Given:
    name: str
    run: Run

    @property
    def label(self) -> str:
        return self.name

    def retrieve(self, collection: Collection, k: int) -> Run:
        return self.run


def arguments() -> Collection:
    """As ArguAna: arguments that are queries too; what answers one is its counter."""
    return Collection(
        name="arguments",
        documents=tuple(
            Document(id=name, title="zoo", text=text)
            for name, text in {
                "pro": "zoos are cruel to animals",
                "con": "animals thrive in zoos",
                "other": "Zoos cost taxes",
                "judged": "zoos teach",
            }.items()
        ),
        queries=(
            Query(id="pro", text="Zoos are cruel to  animals"),
            Query(id="q", text="zoos cost taxes"),
            Query(id="judged", text="zoos teach"),
        ),
        qrels={"pro": {"con": 1}, "q": {"con": 1}, "judged": {"judged": 1}},
    )


def test_a_query_in_the_corpus_is_told_and_taken_out_when_asked():
    perfect: Run = {
        "pro": {"pro": 9.0, "con": 1.0},
        "q": {"other": 9.0, "con": 1.0},
        "judged": {"judged": 1.0},
    }
    plain = evaluate_baselines([Given("run", perfect)], arguments(), BASELINES_ONLY)
    assert plain.rows[0].values["nDCG@10"] == pytest.approx([1 / np.log2(3), 1 / np.log2(3), 1])
    by_id, by_text = evaluation_notes(plain)
    assert "1 query with the id of a document" in by_id
    assert "exclude_same_id=true" in by_id
    assert "1 query with the text of a document of another id" in by_text
    assert by_id in to_markdown([plain])
    config = dataclasses.replace(BASELINES_ONLY, exclude_same_id=True)
    without = evaluate_baselines([Given("run", perfect)], arguments(), config)
    assert without.rows[0].values["nDCG@10"] == pytest.approx([1, 1 / np.log2(3), 1])
    assert evaluation_notes(without) == (by_text,)
    assert without.collection.qrels_hash != plain.collection.qrels_hash


def test_baselines_of_one_name_keep_their_own_rows(collection: Collection):
    runs: list[Run] = [{"q2": {"doll": 1.0}}, {"q2": {"ball": 1.0}}]
    found = evaluate_baselines([Given("bm25", run) for run in runs], collection)
    assert [(row.name, row.label) for row in found.rows] == [
        ("bm25", "BM25"),
        ("bm25-2", "bm25"),
        ("bm25-3", "bm25 (2)"),
    ]
    assert [row.run["q2"] for row in found.rows[1:]] == [run["q2"] for run in runs]
