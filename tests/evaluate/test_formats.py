"""The files of BRIGHT and mteb hold the scores that were worked out by hand."""

import dataclasses

import numpy as np

from t1_jax.retrieval.benchmarks import load_benchmark
from tests.evaluate.toy_benchmark import evaluate_task, read_json


def test_scores_are_those_worked_out_by_hand(bright_output):
    """Cosines of letter counts, by hand.

    Query 0, "aaaa": b 5 (1.0) is excluded; b 1 and b 4 (0.89) are relevant and first: nDCG 1.
    Query 1, "bb c": b 2 (2/√5 = 0.89), b 3 (1/√5 = 0.45), b 1 and b 4 (4/√100 = 0.40), b 5 (0.0).
    b 3 is relevant and second: nDCG 1/log2(3).
    """
    results = read_json(bright_output / "tiny-biology" / "results.json")
    assert len(results) == 25
    assert list(results)[:6] == [f"NDCG@{cut}" for cut in (1, 5, 10, 25, 50, 100)]
    assert list(results)[-1] == "MRR"
    assert results["NDCG@10"] == round((1 + 1 / np.log2(3)) / 2, 5)
    assert results["MRR"] == 0.75
    assert results["P@1"] == 0.5
    assert results["Recall@1"] == 0.25
    assert results["MAP@10"] == 0.75
    scores = read_json(bright_output / "tiny-biology" / "score.json")
    assert set(scores["0"]) == {"b 1", "b 2", "b 3", "b 4"}
    assert scores["0"]["b 1"] == scores["0"]["b 4"] == max(scores["0"].values())
    assert sorted(scores["1"], key=scores["1"].__getitem__)[-2:] == ["b 3", "b 2"]


def test_excluded_documents_of_a_shared_corpus(bright_output):
    """m1 is excluded from t/0, so it is in the ranking of aops only."""
    assert set(read_json(bright_output / "tiny-aops" / "score.json")["0"]) == {"m1", "m2", "m3"}
    assert set(read_json(bright_output / "tiny-theoremqa_questions" / "score.json")["t/0"]) == {
        "m2",
        "m3",
    }


def test_long_documents_are_scored_by_their_labels(bright_data, tmp_path):
    long = load_benchmark(bright_data.folder.parent / "long.yaml")
    folder = evaluate_task(dataclasses.replace(bright_data, benchmark=long), "biology", tmp_path)
    # "aaaa" finds "aaaa bbbb"; "bb c" finds the same one, and not "cccc dddd".
    assert read_json(folder / "results.json")["Recall@1"] == 0.5
    result = read_json(folder / "BrightBiologyLongRetrieval.json")
    assert list(result["scores"]) == ["long"]
    assert result["scores"]["long"][0]["main_score"] == 0.5


def test_the_result_file_of_mteb(bright_output):
    result = read_json(bright_output / "tiny-biology" / "BrightBiologyRetrieval.json")
    (score,) = result["scores"]["standard"]
    assert score["main_score"] == score["ndcg_at_10"] == round((1 + 1 / np.log2(3)) / 2, 6)
    assert (score["mrr_at_1"], score["mrr_at_3"], score["recall_at_1000"]) == (0.5, 0.75, 1)
    assert (score["precision_at_1"], score["map_at_3"]) == (0.5, 0.75)
    assert (score["hf_subset"], score["languages"]) == ("default", ["eng-Latn"])
    assert (result["task_name"], result["dataset_revision"]) == (
        "BrightBiologyRetrieval",
        "unknown",
    )
