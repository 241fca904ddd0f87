import json
from pathlib import Path

import pytest


@pytest.fixture
def fields(base_model, pets, tmp_path, monkeypatch):
    """The smallest quick start: a model and a collection that are on this machine."""
    monkeypatch.chdir(tmp_path)
    return (
        f"model={base_model}",
        f"collections=[{pets}]",
        "dtype=float32",
        "evaluation.max_thought_tokens=4",
        "evaluation.bootstrap_samples=50",
        "retriever.max_document_tokens=128",
    )


def test_from_nothing_to_a_table_and_a_page_and_again(t1, fields, cache, tmp_path):
    answer = t1("quickstart", *fields)
    assert answer.code == 0, answer.err
    for words in ("BM25", "own thought", "no thought", "gold", "nDCG@10", "recall@10"):
        assert words in answer.out
    assert "is a base model" in answer.out
    folder = tmp_path / "runs" / "quickstart"
    assert str(folder / "report.html") in answer.out
    assert "<html" in (folder / "report.html").read_text()
    assert "max_thought_tokens: 4" in (folder / "config.yaml").read_text()
    assert "[1/7] pets: 12 documents" in answer.err
    assert "left in all" in answer.err

    first = json.loads((folder / "results.json").read_text())["collections"][0]
    assert len(list((cache / "vectors").iterdir())) == 1
    again = t1("quickstart", *fields, "--json")
    assert again.code == 0, again.err
    assert "12 documents, remembered from before" in again.err
    second = again.json["collections"][0]
    assert [row["metrics"] for row in second["rows"]] == [row["metrics"] for row in first["rows"]]
    assert Path(again.json["report"]).name == "report.html"


def test_a_file_and_fields_together(t1, fields, tmp_path):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text("output: elsewhere\nremember: false\nevaluation: {controls: [no-think]}\n")
    answer = t1("quickstart", recipe, *fields, "evaluation.bm25=false")
    assert answer.code == 0, answer.err
    assert (tmp_path / "elsewhere" / "table.md").exists()
    assert not (tmp_path / "runs").exists()
    assert "BM25" not in answer.out


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (("evaluation.budgt=3",), "did you mean 'evaluation.max_thought_tokens'?"),
        (("evaluation.max_thought_tokens=0",), "budget must be at least 1"),
        (("a.yaml", "b.yaml"), "more than one config"),
        (("nowhere.yaml",), "nowhere.yaml"),
        (("collections=[nowhere]",), "nowhere"),
        (("model=nowhere",), "nowhere"),
    ],
)
def test_bad_input(t1, fields, given, named):
    answer = t1("quickstart", *fields, *given)
    assert answer.code == 2
    assert named in answer.err
    assert not Path("runs").exists()


def test_a_folder_that_is_no_run_is_not_replaced(t1, fields, tmp_path):
    (tmp_path / "thesis.txt").write_text("precious")
    answer = t1("quickstart", *fields, "output=.")
    assert answer.code == 2
    assert "output=FOLDER" in answer.err
    assert (tmp_path / "thesis.txt").exists()
