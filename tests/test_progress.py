"""Counts, durations and rates as people read them."""

import time

import pytest

from t1_jax import progress
from t1_jax.progress import counted, duration_text, track


def test_counts():
    assert counted(2, "queries") == "2 queries"
    assert counted(1, "queries without result") == "1 query without result"
    assert counted(1, "repeated lines in the corpus") == "1 repeated line in the corpus"
    assert counted(12_345, "documents") == "12,345 documents"


def test_durations():
    assert [duration_text(seconds) for seconds in (4.2, 89.0, 420.0, 7500.0)] == [
        "4 s", "89 s", "7 min", "2 h 05 min",
    ]  # fmt: skip


def test_a_rate_is_that_of_the_whole_time(monkeypatch: pytest.MonkeyPatch):
    """Twelve thoughts that end in one moment took the time before it."""
    lines: list[str] = []
    render = progress._Rate.render

    def recorded(self, task):
        text = render(self, task)
        lines.append(text.plain)
        return text

    monkeypatch.setattr(progress._Rate, "render", recorded)
    with track("thinking", 12, "thoughts", shown=True) as advance:
        time.sleep(0.3)
        for _ in range(12):
            advance(1)
    rate, unit = lines[-1].split(" ")
    assert unit == "thoughts/s"
    assert 1 < float(rate) < 80
