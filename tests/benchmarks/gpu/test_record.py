"""The record of a part: every row is on the disk at once, and NaN passes no check."""

import json

from benchmarks.gpu.record import Record


def read(path):
    return json.loads(path.read_text())


def test_rows_are_written_as_they_come(tmp_path):
    path = tmp_path / "part.json"
    record = Record(path)
    assert read(path)["rows"] == []
    record.measure("speed", 12.5, "tokens/s", share=None, of="peak FLOP/s")
    record.skip("peer", "not installed")
    assert [row["name"] for row in read(path)["rows"]] == ["speed", "peer"]
    assert not read(path)["finished"]
    assert record.finish() == 0
    assert read(path)["finished"]


def test_checks_hold_at_their_bound_and_never_for_nan(tmp_path):
    record = Record(tmp_path / "part.json")
    record.check("at most", 1.0, 1.0)
    record.check("at least", 1.0, 1.0, at_least=True)
    assert record.failed == []
    record.check("nan", float("nan"), 1.0)
    record.check("nan again", float("nan"), 1.0, at_least=True)
    record.check("too much", 1.1, 1.0)
    assert record.failed == ["nan", "nan again", "too much"]
    assert record.finish() == 1


def test_a_case_that_raises_is_a_failed_row(tmp_path):
    record = Record(tmp_path / "part.json")
    with record.case("broken"):
        raise ValueError("shapes differ\nand more")
    record.check("after it", 0.0, 1.0)
    rows = read(tmp_path / "part.json")["rows"]
    assert rows[0] | {"at_s": 0} == {
        "name": "broken",
        "error": "ValueError: shapes differ",
        "passed": False,
        "at_s": 0,
    }
    assert record.finish() == 1
