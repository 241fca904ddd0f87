"""`t1 evaluate --benchmark`: all is checked first, finished tasks are kept, one table has all."""

import json
import shutil

import pytest

from t1_jax.evaluate import benchmark_systems
from tests.retrieval.benchmarks.bright_files import (
    EXAMPLES,
    TINY,
    example,
    split_file,
    write_bright,
    write_parquet,
)

FAST = ("max_thought_tokens=2", "controls=[own]", "bootstrap_samples=20", "--dtype", "float32")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The data, and the benchmark `tiny` with its four tasks alone."""
    folder = tmp_path_factory.mktemp("benchmark")
    (folder / "tiny.yaml").write_text(
        TINY.replace("extends: bright", "layout: bright\ndataset: xlangai/BRIGHT")
        .replace("theoremqa_questions: {", "theoremqa_questions: {corpus: aops, ")
        .replace("pony: {", "pony: {mteb: BrightPonyRetrieval, ")
        + "means: {without Pony: {without: [pony]}}\n"
    )
    write_bright(folder / "data")
    return folder


@pytest.fixture(scope="module")
def command(folder, base_model):
    """The words of the command, without tasks and output."""
    return ["evaluate", "--benchmark", folder / "tiny.yaml", "--data", folder / "data",
            "-m", base_model, *FAST]  # fmt: skip


@pytest.fixture(scope="module")
def finished(t1_in_module, command, tmp_path_factory):
    """All tasks, evaluated in two calls."""
    output = tmp_path_factory.mktemp("finished") / "run"
    first = t1_in_module(*command, "-o", output, "--task", "pony", "--task", "aops")
    assert first.code == 0, first.err
    answer = t1_in_module(*command, "-o", output, "--json")
    assert answer.code == 0, answer.err
    return output, first, answer


@pytest.fixture
def output(finished, tmp_path):
    """A copy of the finished folder."""
    return shutil.copytree(finished[0], tmp_path / "run")


@pytest.fixture
def no_weights(monkeypatch):
    monkeypatch.setattr("t1_jax.retriever.loading.load_opened", None)


def test_tasks_are_written_as_they_finish_and_one_table_has_them_all(finished):
    output, first, answer = finished
    assert "No mean: 2 of 4 tasks not evaluated." in first.out
    assert "queries: original; model: tiny; prompts: t1, version 1; instructions: t1" in first.out
    assert "finished before: pony, aops" in answer.err
    assert list(answer.json["tasks"]) == ["biology", "pony", "aops", "theoremqa_questions"]
    assert set(answer.json["means"]["mean"]) == {"bm25qs", "t1-own"}
    assert answer.json["means"]["without Pony"]["t1-own"]["mean"] <= 1
    assert answer.json["settings"]["data"] == "local files of unknown revision"
    results = json.loads((output / "results.json").read_text())
    assert results["benchmark"]["means"] == answer.json["means"]
    assert "| mean without Pony |" in (output / "table.md").read_text()


def test_a_corpus_of_two_tasks_is_encoded_once(finished):
    output, _, answer = finished
    assert answer.err.count("the documents were encoded before") == 1
    indexes = {path.name.rpartition("-")[0] for path in (output / "embeddings").glob("*/")}
    assert indexes == {"tiny-biology", "tiny-pony", "tiny-aops"}


def test_a_manifest_says_all_that_made_the_numbers(finished):
    manifest = json.loads((finished[0] / "tiny-pony" / "manifest.json").read_text())
    settings = manifest["settings"]
    assert settings["instructions"]["text"] == (
        "Given a pony question, retrieve relevant passages that help answer the question"
    )
    assert settings["model"]["dtype"] == "float32"
    assert settings["model"].keys() >= {"encoder", "prompts", "tokenizer", "max_document_tokens"}
    assert settings["config"]["sampling"]["temperature"] == 0
    assert settings["config"]["top_k"] == 1000
    assert list(settings["files"]) == [
        "examples/pony-00000-of-00001.parquet",
        "documents/pony-00000-of-00001.parquet",
    ]
    assert manifest["systems"][0]["index"] == {"kind": "numpy", "recall_at_10": 1.0}


def test_results_for_mteb_lie_as_in_its_repository(finished):
    (folder,) = (finished[0] / "mteb").glob("*/*")
    assert folder.parent.name == "local__tiny"
    assert {path.name for path in folder.iterdir()} == {
        "BrightPonyRetrieval.json",
        "model_meta.json",
    }


def test_a_finished_run_is_printed_again_without_the_model(t1, command, output, no_weights):
    answer = t1(*command, "-o", output)
    assert answer.code == 0, answer.err
    assert "mean without Pony" in answer.out


def test_a_killed_task_is_evaluated_again_with_its_embeddings(t1, command, output, finished):
    shutil.rmtree(output / "tiny-pony")
    answer = t1(*command, "-o", output, "--json")
    assert answer.code == 0, answer.err
    assert "tiny-pony: the documents were encoded before" in answer.err
    assert answer.json == finished[2].json | {"output": str(output)}


def test_overwriting_one_task_with_other_settings_does_not_mix_them(
    t1, command, output, no_weights
):
    answer = t1(*command, "--task", "pony", "max_thought_tokens=3", "-o", output, "--overwrite")
    assert answer.code == 2
    assert "tiny-biology was evaluated with other settings" in answer.err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["max_thought_tokens=3"], "  config.max_thought_tokens: 2, now 3"),
        (["--rewritten", "gpt4_reason"], '  queries.name: "original", now "gpt4_reason"'),
        (["--instructions", "mteb-v1.1"], "  strip_documents: false, now true"),
        (["--dtype", "bfloat16"], '  model.dtype: "float32", now "bfloat16"'),
        (["--max-query-tokens", "99"], "  model.max_query_tokens: 1024, now 99"),
    ],
)
def test_other_settings_are_an_error_that_names_them(t1, command, output, no_weights, words, named):
    given = [word for word in command if not (words[0] == "--dtype" and word in FAST[-2:])]
    answer = t1(*given, *words, "-o", output)
    assert answer.code == 2
    assert named in answer.err
    assert "tiny-biology was evaluated with other settings" in answer.err


def test_changed_data_are_an_error_that_names_the_file(t1, command, output, folder, tmp_path):
    data = shutil.copytree(folder / "data", tmp_path / "data")
    write_parquet(split_file(data, "documents", "pony"), [{"id": "p1", "content": "x"}])
    moved = [data if word == folder / "data" else word for word in command]
    answer = t1(*moved, "-o", output)
    assert answer.code == 2
    assert "  files.documents/pony-00000-of-00001.parquet: " in answer.err


def test_instructions_and_rewritten_queries_reach_prompts_and_table(t1, command, tmp_path):
    (tmp_path / "own.json").write_text(json.dumps([{"id": "0", "query": "rewritten"}]))
    answer = t1(
        *command, "--task", "pony", "--rewritten", tmp_path / "own.json",
        "--instructions", "mteb-v1.1", "--embeddings", tmp_path / "kept", "-o", tmp_path / "o",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert (
        "tiny-pony: query instruction: Represent this Pony question for searching relevant passages"
        in answer.err
    )
    assert (
        "queries: own.json; model: tiny; prompts: t1, version 1; instructions: mteb-v1.1"
        in answer.out
    )
    assert len(list((tmp_path / "kept").glob("tiny-pony-*/"))) == 1
    assert not (tmp_path / "o" / "embeddings").exists()


def test_truncated_texts_are_counted(t1, command, tmp_path):
    """With their templates, the query has 61 tokens and p1, p2 and p3 have 24, 20 and 20."""
    answer = t1(
        *command, "--task", "pony", "--max-query-tokens", "60", "--max-document-tokens", "23",
        "-o", tmp_path / "o",
    )  # fmt: skip
    assert answer.code == 0, answer.err
    assert "tiny-pony: 1 of 1 query truncated." in answer.out
    assert "tiny-pony: 1 of 3 documents truncated." in answer.out
    manifest = json.loads((tmp_path / "o" / "tiny-pony" / "manifest.json").read_text())
    assert manifest["systems"][0]["truncated_documents"] == 1


def test_some_queries_are_not_a_result(t1, command, tmp_path):
    answer = t1(*command, "--task", "biology", "max_queries=1", "-o", tmp_path / "o")
    assert answer.code == 0, answer.err
    assert "biology: only 1 of 2 queries." in answer.out
    folder = tmp_path / "o" / "tiny-biology"
    assert (folder / "score.json").exists()
    assert not (folder / "results.json").exists()
    assert not (tmp_path / "o" / "mteb").exists()


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--task", "biologie"], "did you mean 'biology'?"),
        (["--rewritten", "gpt5_reason"], "use one of gpt4_reason, or a .json file"),
        (["--instructions", "bright"], "unknown instructions 'bright'"),
        (["task=biology"], "a benchmark chooses the instruction of each task"),
        (["top_k=100", "metrics=[nDCG@10,recall@10]"], "set top_k=1000"),
        (["--preset", "t1-compact", "--instructions", "bright-paper"], "have no instruction"),
        (["-c", "cwe"], "without --collection"),
    ],
)
def test_bad_settings(t1, command, tmp_path, no_weights, words, named):
    answer = t1(*command, *words, "-o", tmp_path / "o")
    assert answer.code == 2
    assert named in answer.err
    assert not (tmp_path / "o").exists()


def test_bad_data_are_found_before_weights_are_read(t1, command, folder, tmp_path, no_weights):
    data = shutil.copytree(folder / "data", tmp_path / "data")
    moved = [data if word == folder / "data" else word for word in command]
    write_parquet(
        split_file(data, "examples", "aops"), [*EXAMPLES["aops"], example("1", "x", ["m2"])]
    )
    answer = t1(*moved, "-o", tmp_path / "o")
    assert answer.code == 2
    assert "aops has 2 queries, and Tiny has 1" in answer.err
    split_file(data, "documents", "pony").unlink()
    answer = t1(*moved, "-o", tmp_path / "o")
    assert answer.code == 2
    assert "pony-00000-of-00001.parquet does not exist" in answer.err


def test_without_data_the_hint_fetches_them(t1, base_model, tmp_path):
    answer = t1("evaluate", "--benchmark", "bright", "-m", base_model, "-o", tmp_path / "o")
    assert answer.code == 2
    assert "hint: t1 pull bright" in answer.err


def test_a_folder_of_something_else_is_left_alone(t1, command, tmp_path, output, folder):
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("x")
    answer = t1(*command, "-o", tmp_path / "other", "--overwrite")
    assert answer.code == 2
    assert "already exists and is not empty" in answer.err
    (folder / "second.yaml").write_text("extends: tiny.yaml\nname: second\n")
    words = [folder / "second.yaml" if word == folder / "tiny.yaml" else word for word in command]
    answer = t1(*words, "-o", output)
    assert answer.code == 2
    assert "has results of tiny, not of second" in answer.err


def test_runs_of_another_system_are_scored_alone(t1, command, finished, tmp_path, no_weights):
    """The runs of the model, scored as those of another system, give its scores."""
    words = command[: command.index("-m")]
    pattern = finished[0] / "tiny-{task}" / "t1-own.trec"
    output = tmp_path / "o"
    answer = t1(*words, "--run", pattern, "-o", output, "bm25qs=false", "--json")
    assert answer.code == 0, answer.err
    for name, mean in finished[2].json["means"].items():
        assert answer.json["means"][name]["t1-own"]["mean"] == pytest.approx(mean["t1-own"]["mean"])
    assert answer.json["settings"]["run"] == str(pattern)
    results = "tiny-pony/results.json"
    assert (output / results).read_text() == (finished[0] / results).read_text()
    assert not (output / "mteb").exists()
    again = t1(*words, "--run", tmp_path / "{task}.trec", "-o", output, "bm25qs=false")
    assert again.code == 2
    assert "biology.trec does not exist" in again.err
    other = tmp_path / "pony.trec"
    other.write_text("0 Q0 p1 1 1.0 x\n")
    again = t1(*words, "--task", "pony", "--run", other, "-o", output, "bm25qs=false")
    assert "tiny-pony was evaluated with other settings" in again.err
    again = t1(*words, "--run", other, "-o", output)
    assert "is the run of one task, and there are 4" in again.err
    again = t1(*words, "--run", other, "-o", output, "-m", "x")
    assert "a run is scored without a model" in again.err


def test_finished_tasks_survive_a_failure_in_a_later_one(t1, command, tmp_path, monkeypatch):
    evaluate = benchmark_systems.evaluate_collection

    def second_fails(model, collection, *given, **how):
        if collection.name == "tiny-pony":
            raise MemoryError
        return evaluate(model, collection, *given, **how)

    monkeypatch.setattr(benchmark_systems, "evaluate_collection", second_fails)
    with pytest.raises(MemoryError):
        t1(*command, "-o", tmp_path / "o")
    monkeypatch.undo()
    assert not (tmp_path / "o" / "tiny-pony").exists()
    answer = t1(*command, "--task", "pony", "-o", tmp_path / "o")
    assert answer.code == 0, answer.err
    assert "finished before: biology" in answer.err


def test_options_of_a_benchmark_need_one(t1, tmp_path):
    answer = t1("evaluate", "-c", "cwe", "--rewritten", "gpt4_reason")
    assert answer.code == 2
    assert "--rewritten belongs to a benchmark" in answer.err
    answer = t1("evaluate", "--benchmark", "bright")
    assert "a benchmark needs a folder" in answer.err


def test_two_runs_can_be_compared(t1, finished, output):
    answer = t1("compare", finished[0], output, "--json")
    assert answer.code == 0, answer.err
    titles = {comparison["title"] for comparison in answer.json["comparisons"]}
    assert titles >= {"tiny-biology", "mean of 4 collections"}
