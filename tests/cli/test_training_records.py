from dataclasses import replace

import pytest

from t1_jax.cli.output import Output
from t1_jax.cli.training_records import (
    check_records_output,
    load_training_set,
    thought_length,
    without_leaks,
)
from t1_jax.errors import DataError, T1Error
from t1_jax.train.data import TrainingRecord, write_records


def test_records_are_the_splits_queries_or_a_files(pets, tmp_path):
    found = load_training_set(Output(False), str(pets), "test", None, lenient=False)
    assert [record.query_id for record in found.records] == ["q1", "q2", "q3", "q4"]
    path = tmp_path / "r.jsonl"
    write_records(path, [TrainingRecord(query_id="x", query="y", positives={"gone": 1})])
    with pytest.raises(DataError, match="names the document 'gone'"):
        load_training_set(Output(False), str(pets), "test", path, lenient=False)


def test_what_is_held_out_is_no_training_set(pets, capsys):
    exam = load_training_set(Output(False), str(pets), "test", None, lenient=False)
    first, *others = exam.records
    own = [replace(first, query_id=name, query="something new") for name in ("new", "again")]
    found = without_leaks(Output(False), str(pets), replace(exam, records=(*own, first)))
    assert [record.query_id for record in found.records] == ["new"]
    assert "removed: 1 query of held-out splits, 0" in capsys.readouterr().out
    with pytest.raises(DataError, match="every record"):
        without_leaks(Output(False), str(pets), replace(exam, records=tuple(others)))


def test_a_target_is_refused_before_the_work(tmp_path):
    check_records_output(tmp_path / "new.parquet", overwrite=False)
    (tmp_path / "old.jsonl").touch()
    check_records_output(tmp_path / "old.jsonl", overwrite=True)
    with pytest.raises(T1Error, match="already exists"):
        check_records_output(tmp_path / "old.jsonl", overwrite=False)
    with pytest.raises(DataError, match="unknown format"):
        check_records_output(tmp_path / "new.csv", overwrite=True)


def test_the_mean_length_of_thoughts():
    record = TrainingRecord(query_id="x", query="y", positives={"d": 1}, thoughts=("ab", "abcd"))
    assert thought_length([record], len) == 3.0
    assert thought_length([], len) == 0.0
