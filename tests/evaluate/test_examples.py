import dataclasses

from t1_jax.evaluate import Evaluation
from t1_jax.evaluate.examples import choose_queries, make_examples, title_of
from t1_jax.retrieval import Document


def test_queries_are_chosen_by_what_the_thought_did(evaluation: Evaluation):
    chosen = choose_queries(evaluation, helped=5, hurt=5, random=5, seed=0)
    assert chosen == [("q1", "helped"), ("q2", "hurt"), ("q3", "random")]
    none_extreme = choose_queries(evaluation, helped=0, hurt=0, random=2, seed=0)
    assert len(none_extreme) == 2
    assert none_extreme == choose_queries(evaluation, helped=0, hurt=0, random=2, seed=0)
    assert {kind for _, kind in none_extreme} == {"random"}


def test_of_equal_scores_the_rank_of_the_best_placed_document_decides(evaluation: Evaluation):
    own, without = evaluation.row("t1-own"), evaluation.row("t1-no-think")
    rows = (
        dataclasses.replace(
            own, relevant_ranks={"q1": {"ball": 200}, "q2": {"doll": 40}, "q3": {}}
        ),
        dataclasses.replace(
            without,
            values=own.values,
            relevant_ranks={"q1": {"ball": 90}, "q2": {"doll": 50}, "q3": {}},
        ),
    )
    equal = dataclasses.replace(evaluation, rows=rows)
    chosen = choose_queries(equal, helped=1, hurt=1, random=1, seed=0)
    assert chosen == [("q2", "helped"), ("q1", "hurt"), ("q3", "random")]


def test_a_card_repeats_the_rows(evaluation: Evaluation):
    own, without = evaluation.row("t1-own"), evaluation.row("t1-no-think")
    card = make_examples(evaluation, helped=1, hurt=0, random=0, documents=3, seed=0)[0]
    assert card.query_id == "q1"
    assert (card.value, card.value_without) == (
        own.values["nDCG@10"][0],
        without.values["nDCG@10"][0],
    )
    assert card.thoughts == own.thoughts["q1"]
    for hits, row in ((card.hits, own), (card.hits_without, without)):
        assert [hit.rank for hit in hits] == [1, 2, 3]
        assert {hit.document_id: hit.score for hit in hits} == {
            hit.document_id: row.run["q1"][hit.document_id] for hit in hits
        }
        assert [hit.score for hit in hits] == sorted(row.run["q1"].values(), reverse=True)[:3]
    judged = [
        (each.document_id, each.grade, each.rank, each.rank_without) for each in card.relevant
    ]
    assert judged == [("ball", 2, 1, 3), ("car", 1, 3, 1)]
    assert [each.gain for each in card.relevant] == [2, -2]
    grades = {hit.document_id: hit.grade for hit in card.hits}
    assert (grades["ball"], grades["car"]) == (2, 1)


def test_without_the_control_there_is_nothing_beside(evaluation: Evaluation):
    alone = dataclasses.replace(evaluation, rows=(evaluation.row("t1-own"),))
    cards = make_examples(alone, helped=4, hurt=4, random=2, documents=3, seed=0)
    assert [card.kind for card in cards] == ["random", "random"]
    assert all(card.value_without is None and card.hits_without == () for card in cards)
    assert all(each.rank_without is None and each.gain == 0 for c in cards for each in c.relevant)
    neither = dataclasses.replace(evaluation, rows=(evaluation.row("bm25"),))
    assert make_examples(neither, helped=4, hurt=4, random=2, documents=3, seed=0) == ()


def test_a_document_without_a_title_is_called_by_its_first_line():
    assert title_of(Document(id="a", text="\n first line\nsecond")) == "first line"
    assert title_of(Document(id="a", text="text", title="The title")) == "The title"
