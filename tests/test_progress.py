"""Counts and durations as people read them."""

from t1_jax.progress import counted, duration_text


def test_counts():
    assert counted(2, "queries") == "2 queries"
    assert counted(1, "queries without result") == "1 query without result"
    assert counted(1, "repeated lines in the corpus") == "1 repeated line in the corpus"
    assert counted(12_345, "documents") == "12,345 documents"


def test_durations():
    assert [duration_text(seconds) for seconds in (4.2, 89.0, 420.0, 7500.0)] == [
        "4 s", "89 s", "7 min", "2 h 05 min",
    ]  # fmt: skip
