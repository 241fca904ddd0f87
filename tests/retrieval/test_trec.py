import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval import read_qrels, read_run, trec_ids, write_qrels, write_run

words = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=6)


def test_a_run_is_written_best_first_with_spaces_replaced(tmp_path: Path):
    path = tmp_path / "run.trec"
    write_run({"q 1": {"9": 1.0, "10": np.float32(1), "a b": 2.5}, "q2": {}}, path, tag="mine")
    assert path.read_text() == (
        "q_1 Q0 a_b 1 2.5 mine\nq_1 Q0 9 2 1.0 mine\nq_1 Q0 10 3 1.0 mine\n"
    )
    assert read_run(path) == {"q_1": {"a_b": 2.5, "9": 1.0, "10": 1.0}}


floats = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    run=st.dictionaries(words, st.dictionaries(words, floats, min_size=1), max_size=3),
    qrels=st.dictionaries(words, st.dictionaries(words, st.integers(-9, 9), min_size=1)),
)
def test_round_trips(run, qrels, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trec")
    write_run(run, folder / "run")
    write_qrels(qrels, folder / "qrels")
    assert read_run(folder / "run") == run
    assert read_qrels(folder / "qrels") == qrels


def test_ids_that_become_equal_are_refused(tmp_path: Path):
    assert trec_ids(["a b", "a\u00a0c"]) == {"a b": "a_b", "a\u00a0c": "a_c"}
    with pytest.raises(DataError, match="'a b' and 'a_b' both become 'a_b'"):
        write_qrels({"q": {"a b": 1, "a_b": 1}}, tmp_path / "qrels")
    with pytest.raises(DataError, match="empty id"):
        trec_ids([""])


@pytest.mark.parametrize("tag", ["", "my run"])
def test_a_tag_is_one_word(tmp_path: Path, tag: str):
    with pytest.raises(DataError, match="tag of a run"):
        write_run({}, tmp_path / "run", tag=tag)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("q Q0 d 1 1.0", "expected 6 fields separated by whitespace, found 5"),
        ("", "expected 6 fields separated by whitespace, found 0"),
        ("q Q0 d 1 high t", "must be a number, found 'high'"),
        ("q Q0 d 1 1_0 t", "must be a number, found '1_0'"),
        ("q Q0 d 1 nan t", "must be finite in float32, found 'nan'"),
        ("q Q0 d 1 1e39 t", "must be finite in float32, found '1e39'"),
        ("q Q0 my\tdog 1 1.0 t", "found 7"),
        ("q Q0 a 1 2.0 t", "query 'q' lists document 'a' twice"),
    ],
)
def test_faults_of_a_run_have_their_line(tmp_path: Path, line: str, fault: str):
    path = tmp_path / "run"
    path.write_text(f"q Q0 a 1 2.0 t\n{line}\n")
    with pytest.raises(DataError, match=f"run:2: .*{fault}"):
        read_run(path)


@pytest.mark.parametrize(
    ("line", "fault"),
    [
        ("q d 1", "expected 4 fields"),
        ("q 0 d high", "must be an integer of at most 6 digits, found 'high'"),
        ("q 0 a 0", "query 'q' judges document 'a' twice"),
    ],
)
def test_faults_of_qrels_have_their_line(tmp_path: Path, line: str, fault: str):
    path = tmp_path / "qrels"
    path.write_text(f"q 0 a 1\n{line}\n")
    with pytest.raises(DataError, match=f"qrels:2: .*{fault}"):
        read_qrels(path)


def test_a_run_is_read_whatever_its_file_is_packed_in(tmp_path: Path):
    """Spaces that are not ASCII are part of an id, and a byte order mark of nothing."""
    lines = "\ufeffq Q0 d\u3000e 1 2.0 t\r\nq\tQ0\tf 2 1e-3 t\n".encode()
    (tmp_path / "run.gz").write_bytes(gzip.compress(lines))
    assert read_run(tmp_path / "run.gz") == {"q": {"d\u3000e": 2.0, "f": 0.001}}
