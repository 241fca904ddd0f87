"""The data behind the table of all queries."""

import json
from dataclasses import replace

import pytest

from t1_jax.evaluate import Evaluation, render_report
from t1_jax.evaluate.query_data import query_data
from t1_jax.evaluate.sentences import RankChange, SentenceEffect


def test_each_query_has_what_each_row_retrieved_and_thought(evaluation: Evaluation) -> None:
    data = query_data(evaluation, documents=2, queries=10)
    json.dumps(data)  # JSON values only
    assert data["metric"] == "nDCG@10"
    assert [row["label"] for row in data["rows"]] == [row.label for row in evaluation.rows]
    own, without = evaluation.row("t1-own"), evaluation.row("t1-no-think")
    assert data["rows"][data["own"]] == {"label": own.label, "thinks": True}
    assert data["rows"][data["other"]] == {"label": without.label, "thinks": False}
    first = data["queries"][0]
    names = [document[0] for document in data["documents"]]
    assert first["id"] == "q1"
    assert {names[number]: grade for number, grade in first["grades"]} == {"ball": 2, "car": 1}
    row = first["rows"][data["own"]]
    assert row["value"] == pytest.approx(own.values["nDCG@10"][0], abs=1e-4)
    assert row["ranks"] == [own.relevant_ranks["q1"]["ball"], own.relevant_ranks["q1"]["car"]]
    assert len(row["hits"]) == 2
    for number, score in row["hits"]:
        assert score == pytest.approx(own.run["q1"][names[number]], abs=1e-4)
    (thought,) = row["thoughts"]
    assert thought["text"] == "bbbb bbbb bbbb"
    assert thought["end"] == "emb_token"
    assert first["sentences"] == []


def test_sentences_that_were_left_out_name_the_documents_they_move(evaluation: Evaluation) -> None:
    effect = SentenceEffect(
        text="bbbb", similarity=0.5, moves=(RankChange(document_id="egg", before=1, after=4),)
    )
    changed = replace(evaluation, sentence_effects={"q2": (effect,)})
    data = query_data(changed, documents=1, queries=10)
    (sentence,) = data["queries"][1]["sentences"]
    number, before, after = sentence["moves"][0]
    assert (data["documents"][number][0], before, after) == ("egg", 1, 4)
    assert sentence["cosine"] == 0.5
    assert "sentences left out</option>" in render_report([changed])


def test_many_queries_are_thinned_out_evenly(evaluation: Evaluation) -> None:
    data = query_data(evaluation, documents=1, queries=2)
    assert [query["id"] for query in data["queries"]] == ["q1", "q2"]
    assert data["total"] == 3


def test_texts_cannot_end_the_script_that_holds_them(evaluation: Evaluation) -> None:
    html = render_report([evaluation])
    blocks = html.split('<script type="application/json">')[1:]
    assert len(blocks) == 1
    data = json.loads(blocks[0].split("</script>")[0])
    texts = [query["rows"][data["own"]]["thoughts"][0]["text"] for query in data["queries"]]
    assert "<script>bbbb</script> <emb_token> bbbb bbbb" in texts
