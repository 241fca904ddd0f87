import gzip
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from t1_jax.errors import DataError
from t1_jax.retrieval import read_run, trec_ids, write_run

words = st.text(st.characters(exclude_categories=["Cs", "Z", "C"]), min_size=1, max_size=6)


def test_a_run_is_written_best_first_with_spaces_replaced(tmp_path: Path):
    path = tmp_path / "run.trec"
    write_run({"q 1": {"9": 1.0, "10": np.float32(1), "a b": 2.5}, "q2": {}}, path, tag="mine")
    assert path.read_text() == (
        "q_1 Q0 a_b 1 2.5 mine\nq_1 Q0 9 2 1.0 mine\nq_1 Q0 10 3 1.0 mine\n"
    )
    assert read_run(path) == {"q_1": {"a_b": 2.5, "9": 1.0, "10": 1.0}}


floats = st.floats(allow_nan=False, allow_infinity=False, width=32)


@example(run={"{": {"0": 0.0}})  # not JSON
@example(run={'{"a":': {"0": 0.0}})
@given(run=st.dictionaries(words, st.dictionaries(words, floats, min_size=1), max_size=3))
def test_a_run_round_trips(run, tmp_path_factory):
    path = tmp_path_factory.mktemp("trec") / "run"
    write_run(run, path)
    assert read_run(path) == run


def test_ids_that_become_equal_are_refused(tmp_path: Path):
    assert trec_ids(["a b", "a\u00a0c"]) == {"a b": "a_b", "a\u00a0c": "a_c"}
    with pytest.raises(DataError, match="'a b' and 'a_b' both become 'a_b'"):
        write_run({"q": {"a b": 1, "a_b": 1}}, tmp_path / "run")
    with pytest.raises(DataError, match="must not be empty"):
        trec_ids([""])


@pytest.mark.parametrize("tag", ["", "my run"])
def test_a_tag_is_one_word(tmp_path: Path, tag: str):
    with pytest.raises(DataError, match="tag of a run"):
        write_run({}, tmp_path / "run", tag=tag)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("q Q0 d 1 1.0", "expected 6 fields separated by white space, found 5"),
        ("", "expected 6 fields separated by white space, found 0"),
        ("q Q0 d 1 high t", "must be a number, found 'high'"),
        ("q Q0 d 1 1_0 t", "must be a number, found '1_0'"),
        ("q Q0 d 1 nan t", "must be finite in float32, found 'nan'"),
        ("q Q0 d 1 1e39 t", "must be finite in float32, found '1e39'"),
        ("q Q0 my\tdog 1 1.0 t", "found 7"),
        ("q Q0 a 1 2.0 t", "query 'q' lists document 'a' twice"),
    ],
)
def test_errors_in_a_run_name_the_line(tmp_path: Path, line: str, message: str):
    path = tmp_path / "run"
    path.write_text(f"q Q0 a 1 2.0 t\n{line}\n")
    with pytest.raises(DataError, match=f"run:2: .*{message}"):
        read_run(path)


def test_a_gzipped_run_with_a_byte_order_mark_is_read(tmp_path: Path):
    """Only ASCII white space separates fields: other spaces are part of an id."""
    lines = "\ufeffq Q0 d\u3000e 1 2.0 t\r\nq\tQ0\tf 2 1e-3 t\n".encode()
    (tmp_path / "run.gz").write_bytes(gzip.compress(lines))
    assert read_run(tmp_path / "run.gz") == {"q": {"d\u3000e": 2.0, "f": 0.001}}
