"""A benchmark on BRIGHT-shaped files: scores worked out by hand, files of others, going on."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import DataError, T1Error
from t1_jax.evaluate import (
    BenchmarkScores,
    EvaluationConfig,
    ModelFacts,
    TaskScores,
    benchmark_as_markdown,
    benchmark_results_as_json,
    check_settings,
    evaluate_collection,
    mteb_model_meta,
    read_scored_run,
    read_task,
    write_task,
)
from t1_jax.files import write_atomically
from t1_jax.retrieval import Document, read_run
from t1_jax.retrieval.benchmarks import Benchmark, BenchmarkData, load_benchmark
from tests.evaluate.toys import LetterModel
from tests.retrieval.benchmarks.bright_files import TINY, TINY_LONG, write_bright

SETTINGS = {"queries": "original", "model": {"dtype": "float32", "limits": [1, 2]}}
CONFIG = EvaluationConfig(
    controls=("no-think",),
    bm25=False,
    top_k=1000,
    metrics=("nDCG@10", "recall@10", "recall@1"),
    bootstrap_samples=100,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> BenchmarkData:
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "tiny.yaml").write_text(TINY)
    (folder / "long.yaml").write_text(TINY_LONG)
    return BenchmarkData(
        benchmark=load_benchmark(folder / "tiny.yaml"), folder=write_bright(folder / "data")
    )


def evaluate(data: BenchmarkData, task: str, output: Path, facts: ModelFacts) -> Path:
    """Evaluates a task with the model that compares letters, and writes its folder."""
    collection = data.collection(task)
    evaluation = evaluate_collection(LetterModel(), collection, CONFIG, facts=facts)
    folder = output / collection.name
    write_task(
        folder,
        evaluation,
        data.benchmark,
        task,
        settings=SETTINGS,
        scorable=len(collection.queries),
        notes=["a note"],
        model_meta=mteb_model_meta(
            "owner/letters",
            revision="0" * 40,
            parameters=27,
            embed_dim=27,
            max_tokens=99,
            trained_on=[],
            uses_instructions=False,
        ),
    )
    return folder


@pytest.fixture(scope="module")
def output(data: BenchmarkData, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results") / "tiny"
    facts = ModelFacts(name="letters", encoder="ab", prompt="cd")
    for task in ("biology", "pony", "aops", "theoremqa_questions"):
        evaluate(data, task, folder, facts)
    return folder


def read(path: Path):
    return json.loads(path.read_text())


def test_scores_are_those_worked_out_by_hand(output):
    """Cosines of letter counts, by hand.

    Query 0, "aaaa": b 5 (1.0) is excluded; b 1 and b 4 (0.89) are relevant and first: nDCG 1.
    Query 1, "bb c": b 2 (2/√5 = 0.89), b 3 (1/√5 = 0.45), b 1 and b 4 (4/√100 = 0.40), b 5 (0.0).
    b 3 is relevant and second: nDCG 1/log2(3).
    """
    results = read(output / "tiny-biology" / "results.json")
    assert len(results) == 25
    assert list(results)[:6] == [f"NDCG@{cut}" for cut in (1, 5, 10, 25, 50, 100)]
    assert list(results)[-1] == "MRR"
    assert results["NDCG@10"] == round((1 + 1 / np.log2(3)) / 2, 5)
    assert results["MRR"] == 0.75
    assert results["P@1"] == 0.5
    assert results["Recall@1"] == 0.25
    assert results["MAP@10"] == 0.75
    scores = read(output / "tiny-biology" / "score.json")
    assert set(scores["0"]) == {"b 1", "b 2", "b 3", "b 4"}
    assert scores["0"]["b 1"] == scores["0"]["b 4"] == max(scores["0"].values())
    assert sorted(scores["1"], key=scores["1"].__getitem__)[-2:] == ["b 3", "b 2"]


def test_excluded_documents_of_a_shared_corpus(output):
    """m1 is excluded from t/0, so it is in the ranking of aops only."""
    assert set(read(output / "tiny-aops" / "score.json")["0"]) == {"m1", "m2", "m3"}
    assert set(read(output / "tiny-theoremqa_questions" / "score.json")["t/0"]) == {"m2", "m3"}


def test_long_documents_are_scored_by_their_labels(data, tmp_path, facts):
    long = load_benchmark(data.folder.parent / "long.yaml")
    folder = evaluate(dataclasses.replace(data, benchmark=long), "biology", tmp_path, facts)
    # "aaaa" finds "aaaa bbbb"; "bb c" finds the same one, and not "cccc dddd".
    assert read(folder / "results.json")["Recall@1"] == 0.5
    result = read(folder / "BrightBiologyLongRetrieval.json")
    assert list(result["scores"]) == ["long"]
    assert result["scores"]["long"][0]["main_score"] == 0.5


def test_the_files_of_a_task(output):
    folder = output / "tiny-biology"
    assert {path.name for path in folder.iterdir()} == {
        "manifest.json",
        "evaluation.json",
        "score.json",
        "results.json",
        "t1-no-think.trec",
        "trec_ids.json",
        "per_query.jsonl",
        "thoughts.jsonl",
        "BrightBiologyRetrieval.json",
        "model_meta.json",
        "report.html",
    }
    assert set(read_run(folder / "t1-no-think.trec")["0"]) == {"b_1", "b_2", "b_3", "b_4"}
    assert read(folder / "trec_ids.json")["b 1"] == "b_1"
    manifest = read(folder / "manifest.json")
    assert manifest["settings"] == SETTINGS
    assert manifest["data"]["documents"] == 5
    assert manifest["data"]["queries"] == "original"
    assert manifest["data"]["qrels_hash"]
    assert manifest["systems"][0]["distinct_documents"] == 4
    assert {"versions", "hardware", "started", "seconds"} <= manifest.keys()
    assert manifest["notes"] == [
        "tiny-biology: 1 duplicate line in the corpus (ignored).",
        "tiny-biology: 1 excluded id that the corpus lacks (ignored).",
        "a note",
    ]


def test_ids_that_become_equal_in_trec_files_cost_these_files_only(data, tmp_path, facts):
    collection = data.collection("biology")
    twin = Document(id="b_1", text="dddd")
    collection = dataclasses.replace(collection, documents=(*collection.documents, twin))
    evaluation = evaluate_collection(LetterModel(), collection, CONFIG, facts=facts)
    write_task(tmp_path / "t", evaluation, data.benchmark, "biology", settings=SETTINGS, scorable=2)
    assert not list((tmp_path / "t").glob("*trec*"))
    (note,) = [note for note in read_task(tmp_path / "t", "b", "nDCG@10").notes if "TREC" in note]
    assert note.startswith("tiny-biology: no TREC runs: ids 'b 1' and 'b_1' both become 'b_1'")


def test_the_result_file_of_mteb(output):
    result = read(output / "tiny-biology" / "BrightBiologyRetrieval.json")
    (score,) = result["scores"]["standard"]
    assert score["main_score"] == score["ndcg_at_10"] == round((1 + 1 / np.log2(3)) / 2, 6)
    assert (score["mrr_at_1"], score["mrr_at_3"], score["recall_at_1000"]) == (0.5, 0.75, 1)
    assert (score["precision_at_1"], score["map_at_3"]) == (0.5, 0.75)
    assert (score["hf_subset"], score["languages"]) == ("default", ["eng-Latn"])
    assert (result["task_name"], result["dataset_revision"]) == (
        "BrightBiologyRetrieval",
        "unknown",
    )


@pytest.fixture
def tasks(output: Path, data: BenchmarkData) -> list[TaskScores]:
    return [
        read_task(output / f"tiny-{task}", task, "nDCG@10")
        for task in ("biology", "pony", "aops", "theoremqa_questions")
    ]


@pytest.fixture
def small(data: BenchmarkData) -> Benchmark:
    """The four tasks alone, so that there are means."""
    members = ("biology", "pony", "aops", "theoremqa_questions")
    return dataclasses.replace(
        data.benchmark,
        tasks={name: data.benchmark.tasks[name] for name in members},
        means={name: mean for name, mean in data.benchmark.means.items() if name == "without Pony"},
    )


def scores_of(benchmark: Benchmark, tasks: list[TaskScores]) -> BenchmarkScores:
    return BenchmarkScores(
        benchmark=benchmark,
        tasks=tasks,
        settings={"queries": "gpt4_reason", "instructions": "bright-paper"},
        bootstrap_samples=2000,
    )


def test_means_give_each_task_the_same_weight(small, tasks):
    scores = scores_of(small, tasks)
    of_tasks = [float(task.rows["t1-no-think"].values.mean()) for task in tasks]
    mean, without_pony = (
        scores.means[name].rows["t1-no-think"] for name in ("mean", "without Pony")
    )
    assert mean.mean == pytest.approx(np.mean(of_tasks))
    assert without_pony.mean == pytest.approx(np.mean([of_tasks[0], *of_tasks[2:]]))
    # Only biology has two queries, of 1 and 1 / log2(3): its mean varies between them.
    assert mean.low == pytest.approx((1 / np.log2(3) + 3) / 4)
    assert mean.high == pytest.approx(1)


def test_tables_say_queries_and_instructions(small, tasks):
    text = benchmark_as_markdown(scores_of(small, tasks))
    assert text.startswith(
        "Tiny, nDCG@10; queries: gpt4_reason; instructions: bright-paper\n\n| Task | queries |"
    )
    assert "| biology | 2 | 0.815 [0.631, 1.000] |" in text
    assert "| mean without Pony |  | 0.938 [0.877, 1.000] |" in text


def test_a_mean_needs_every_task_and_every_query(small, tasks):
    scores = scores_of(small, tasks[:2])
    assert scores.means["mean"].refusal == "2 of 4 tasks not evaluated"
    assert "No mean without Pony: 2 of 3 tasks not evaluated." in list(scores.notes())
    assert "| mean |  | – |" in benchmark_as_markdown(scores)
    partial = [tasks[0], tasks[1], dataclasses.replace(tasks[2], scorable=9), tasks[3]]
    scores = scores_of(small, partial)
    assert scores.means["mean"].refusal == "aops has scores of 1 of 9 queries"
    assert next(iter(scores.notes())) == "aops: only 1 of 9 queries."
    assert scores.as_json()["means"] == {"mean": None, "without Pony": None}


def test_t1_compare_reads_the_results_over_all_tasks(small, tasks, output):
    results = benchmark_results_as_json(scores_of(small, tasks))
    write_atomically(output / "results.json", json.dumps(results))
    run = read_scored_run(output)
    assert list(run.collections) == [f"tiny-{task.task}" for task in tasks]
    assert run.collections["tiny-biology"].values["nDCG@10"].tolist() == pytest.approx(
        [1, 1 / np.log2(3)]
    )


def test_other_settings_are_named_with_both_values(tasks, output):
    folder = output / "tiny-biology"
    check_settings(folder, tasks[0], {"queries": "original", "model": SETTINGS["model"]})
    other = {"queries": "gpt4_reason", "model": {"dtype": "bfloat16", "limits": [1, 2], "n": 1}}
    with pytest.raises(T1Error) as caught:
        check_settings(folder, tasks[0], other)
    assert caught.value.message.splitlines()[1:] == [
        '  queries: "original", now "gpt4_reason"',
        '  model.dtype: "float32", now "bfloat16"',
        "  model.n: none, now 1",
    ]


@pytest.mark.parametrize("damage", ["manifest.json", "per_query.jsonl", "evaluation.json", "new"])
def test_damaged_folders(data, tmp_path, facts, damage):
    folder = evaluate(data, "pony", tmp_path, facts)
    if damage == "new":
        manifest = read(folder / "manifest.json") | {"format": 2}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        content = (folder / damage).read_text()
        (folder / damage).write_text(content[: len(content) // 2])
    with pytest.raises(DataError, match="has format 2" if damage == "new" else "is damaged"):
        read_task(folder, "pony", "nDCG@10")
