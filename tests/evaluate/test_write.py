import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest

from t1_jax.errors import DataError, T1Error
from t1_jax.evaluate import Evaluation, render_report, to_markdown, write_results
from t1_jax.retrieval import read_run


def _lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def folder(tmp_path: Path, evaluation: Evaluation) -> Path:
    write_results(tmp_path / "run", [evaluation])
    return tmp_path / "run"


def test_results_hold_every_mean_interval_and_hash(folder: Path, evaluation: Evaluation):
    results = json.loads((folder / "results.json").read_text())
    (part,) = results["collections"]
    assert part["query_ids"] == ["q1", "q2", "q3"]
    assert part["data_hash"] == evaluation.collection.data_hash
    assert part["qrels_hash"] == evaluation.collection.qrels_hash
    assert part["systems"][0]["model"] == {
        "name": "letters",
        "encoder": "ab12",
        "prompt": "cd34",
        "is_trained": True,
        "details": {"dtype": "float32"},
    }
    assert part["systems"][0]["config"]["sampling"]["temperature"] == 0
    for row, written in zip(evaluation.rows, part["rows"], strict=True):
        for metric, values in row.values.items():
            found = written["metrics"][metric]
            assert found["mean"] == pytest.approx(values.mean())
            assert found == dataclasses.asdict(evaluation.intervals[row.name][metric])
    own = part["rows"][1]
    assert own["thinking"]["mean_tokens"] == 3
    assert {"python", "t1_jax", "jax", "numpy"} <= results["versions"].keys()
    assert results["hardware"]["cores"]


def test_comparisons_follow_from_the_values_per_query(folder: Path):
    (part,) = json.loads((folder / "results.json").read_text())["collections"]
    values = _lines(folder / "toys-test" / "per_query.jsonl")
    assert len(part["comparisons"]) == 6 * 3
    for found in part["comparisons"]:
        gains = [
            line["rows"][found["first"]][found["metric"]]
            - line["rows"][found["second"]][found["metric"]]
            for line in values
        ]
        assert found["first"] == "t1-own"
        assert found["difference"] == pytest.approx(np.mean(gains))
        assert found["better"] == sum(gain > 0 for gain in gains)


def test_runs_read_back(folder: Path, evaluation: Evaluation):
    for row in evaluation.rows:
        path = folder / "toys-test" / f"{row.name}.trec"
        assert read_run(path) == {key: scores for key, scores in row.run.items() if scores}
        if row.run["q1"]:
            assert path.read_text().split("\n")[0].endswith(f" {row.name}")


def test_thoughts_are_written_word_for_word(folder: Path):
    thoughts = _lines(folder / "toys-test" / "thoughts.jsonl")
    own = {line["query_id"]: line for line in thoughts if line["row"] == "t1-own"}
    assert own["q2"] == {
        "row": "t1-own",
        "query_id": "q2",
        "sample": 0,
        "text": "<script>bbbb</script> <emb_token> bbbb bbbb",
        "tokens": 4,
        "log_prob_sum": -2.0,
        "finish_reason": "length",
        "source": None,
    }
    assert own["q3"]["text"] == "e \x00e"
    others = [line for line in thoughts if line["row"] == "t1-random"]
    assert all(line["source"] not in (None, line["query_id"]) for line in others)
    assert not [line for line in thoughts if line["row"] in ("t1-no-think", "bm25")]


def test_ranks_of_judged_documents_are_kept(folder: Path):
    first = _lines(folder / "toys-test" / "per_query.jsonl")[0]
    assert first["query_id"] == "q1"
    assert first["rows"]["t1-no-think"]["relevant_ranks"] == {"ball": 3, "car": 1}


def test_table_and_report_lie_beside(folder: Path, evaluation: Evaluation):
    assert (folder / "table.md").read_text(encoding="utf-8") == to_markdown([evaluation])
    assert (folder / "report.html").read_text(encoding="utf-8") == render_report([evaluation])


def test_a_folder_that_stands_is_replaced_only_when_asked(folder: Path, evaluation: Evaluation):
    with pytest.raises(T1Error, match="already exists"):
        write_results(folder, [evaluation])
    write_results(folder, [dataclasses.replace(evaluation, split="dev")], overwrite=True)
    assert (folder / "toys-dev").is_dir()
    assert not (folder / "toys-test").exists()


def test_two_of_one_name_leave_nothing_behind(tmp_path: Path, evaluation: Evaluation):
    with pytest.raises(DataError, match="would be written to one folder"):
        write_results(tmp_path / "run", [evaluation, evaluation])
    assert list(tmp_path.iterdir()) == []


def test_rows_whose_names_meet_in_the_file_system_have_files_of_their_own(
    tmp_path: Path, evaluation: Evaluation
):
    names = ("動物", "?", "mine", "MINE", "mine!")
    rows = tuple(dataclasses.replace(evaluation.rows[0], name=name) for name in names)
    write_results(tmp_path / "run", [dataclasses.replace(evaluation, rows=rows)])
    assert {path.stem for path in (tmp_path / "run").glob("*/*.trec")} == {
        "動物",
        "unnamed",
        "mine",
        "MINE-2",
        "mine-3",
    }
