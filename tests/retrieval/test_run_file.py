"""Runs in TREC format, BRIGHT's score.json and Tevatron's rankings."""

import json
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.retrieval import read_run

RUN = {"q 1": {"d 1": 2.5, "d2": 1.0}, "q2": {"d2": -3.0}}


def test_the_content_decides_on_the_format(tmp_path: Path):
    path = tmp_path / "run"
    path.write_text(json.dumps(RUN, indent=2))
    assert read_run(path) == RUN
    path.write_text("q 1\td 1\t2.5\nq 1\td2\t1\nq2\td2\t-3\n")
    assert read_run(path) == RUN
    path.write_text("q_1 Q0 d_1 1 2.5 x\nq_1 Q0 d2 2 1 x\nq2\tQ0\td2\t1\t-3\tx\n")
    assert read_run(path) == {"q_1": {"d_1": 2.5, "d2": 1.0}, "q2": {"d2": -3.0}}
    path.write_text("")
    assert read_run(path) == {}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('{"q": {"d": 1,}}', "malformed JSON: .* line 1 column"),
        ('{"q": [1]}', "query 'q' must have an object of documents and scores, found list"),
        ('{"q": {"d": "1"}}', "query 'q': document 'd' has the score '1', which is not a number"),
        ('{"q": {"d": true}}', "has the score True"),
        ('{"q": {"d": NaN}}', "has the score nan"),
        ('{"q": {"d": 1e39}}', "finite in float32"),
        ('{"q": {"d": 1, "d": 2}}', "query 'q': document 'd' occurs twice"),
        ('{"q": {}, "q": {}}', "query 'q' occurs twice"),
        ('{"": {}}', "query '': the id is empty"),
        ("q\td\t1\nq\te\n", "run:2: expected query, document and score separated by tabs, found 2"),
        ("q\td\t1\nq\td\t2\n", "run:2: query 'q' lists document 'd' twice"),
        ("q\td\tx\n", "run:1: the score must be a number"),
        ("q\t\t1\n", "run:1: the id is empty"),
        ("q\td\t1\nq\te\t2\np\td\t1\n", "run:1: the third field counts from 1 .* it is the rank"),
    ],
)
def test_malformed_files(tmp_path: Path, content: str, message: str):
    path = tmp_path / "run"
    path.write_text(content)
    with pytest.raises(DataError, match=message):
        read_run(path)
