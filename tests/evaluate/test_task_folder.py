"""The folder of a finished task: what is in it, and whether a later run may go on with it."""

import dataclasses
import json

import pytest

from t1_jax.errors import DataError, T1Error
from t1_jax.evaluate import check_settings, evaluate_collection, read_task, write_task
from t1_jax.retrieval import Document, read_run
from tests.evaluate.toy_benchmark import CONFIG, FACTS, SETTINGS, evaluate_task, read_json
from tests.evaluate.toys import LetterModel


def test_the_files_of_a_task(bright_output):
    folder = bright_output / "tiny-biology"
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
    assert read_json(folder / "trec_ids.json")["b 1"] == "b_1"
    manifest = read_json(folder / "manifest.json")
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


def test_ids_that_become_equal_in_trec_files_cost_these_files_only(bright_data, tmp_path):
    collection = bright_data.collection("biology")
    twin = Document(id="b_1", text="dddd")
    collection = dataclasses.replace(collection, documents=(*collection.documents, twin))
    evaluation = evaluate_collection(LetterModel(), collection, CONFIG, facts=FACTS)
    folder, benchmark = tmp_path / "t", bright_data.benchmark
    write_task(folder, evaluation, benchmark, "biology", settings=SETTINGS, scorable=2)
    assert not list(folder.glob("*trec*"))
    (note,) = [note for note in read_task(folder, "b", "nDCG@10").notes if "TREC" in note]
    assert note.startswith("tiny-biology: no TREC runs: ids 'b 1' and 'b_1' both become 'b_1'")


def test_other_settings_are_named_with_both_values(bright_output):
    folder = bright_output / "tiny-biology"
    scores = read_task(folder, "biology", "nDCG@10")
    check_settings(folder, scores, {"queries": "original", "model": SETTINGS["model"]})
    other = {"queries": "gpt4_reason", "model": {"dtype": "bfloat16", "limits": [1, 2], "n": 1}}
    with pytest.raises(T1Error) as caught:
        check_settings(folder, scores, other)
    assert caught.value.message.splitlines()[1:] == [
        '  queries: "original", now "gpt4_reason"',
        '  model.dtype: "float32", now "bfloat16"',
        "  model.n: none, now 1",
    ]


@pytest.mark.parametrize("damage", ["manifest.json", "per_query.jsonl", "evaluation.json", "new"])
def test_damaged_folders(bright_data, tmp_path, damage):
    folder = evaluate_task(bright_data, "pony", tmp_path)
    if damage == "new":
        manifest = read_json(folder / "manifest.json") | {"format": 2}
        (folder / "manifest.json").write_text(json.dumps(manifest))
    else:
        content = (folder / damage).read_text()
        (folder / damage).write_text(content[: len(content) // 2])
    with pytest.raises(DataError, match="has format 2" if damage == "new" else "is damaged"):
        read_task(folder, "pony", "nDCG@10")
