"""Thoughts that name documents are counted whatever surrounds the name."""

import json
from pathlib import Path

import pytest

from benchmarks.experiment.titles import main, title_rates
from t1_jax.retrieval import Collection, Document, Query, save_collection

COLLECTION = Collection(
    name="holes",
    documents=(
        Document(id="415", title="Double Free", text="It is freed twice."),
        Document(id="78", title="OS Command Injection", text="A shell runs input."),
        Document(id="none", title="", text="No title."),
    ),
    queries=tuple(Query(id=name, text=name) for name in "abcd"),
    qrels={"a": {"415": 1}, "b": {"415": 1}, "c": {"78": 1}, "d": {"none": 1}},
)
THOUGHTS = [
    ("a", "Weakness: Double Free."),
    ("b", "This is OS command-injection."),
    ("c", "Double trouble."),
    ("d", "Weakness: ."),
]


def test_titles_are_found_in_thoughts():
    assert title_rates(COLLECTION, THOUGHTS) == (0.5, 0.25)


def test_the_folder_of_an_evaluation_is_read(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    save_collection({"validation": COLLECTION}, tmp_path / "holes")
    folder = tmp_path / "evaluation"
    file = folder / "holes-validation" / "thoughts.jsonl"
    file.parent.mkdir(parents=True)
    rows = [
        {"row": row, "query_id": query, "sample": sample, "text": text}
        for row in ("t1-own", "t1-random")
        for sample in (0, 1)
        for query, text in (THOUGHTS if row == "t1-own" and sample == 0 else THOUGHTS[2:])
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        main([str(folder)])
    lines = capsys.readouterr().out.splitlines()
    assert lines[2:] == [
        "| evaluation | holes/validation | t1-own | 4 | 0.500 | 0.250 |",
        "| evaluation | holes/validation | t1-random | 2 | 0.000 | 0.000 |",
    ]
