"""A person sees step, loss, speed and time left, on a terminal and in a log file."""

import io

import pytest
from rich.console import Console

from t1_jax.train.infra import training_bar

METRICS = {
    "loss": 2.34567,
    "tokens": 444_588.0,
    "tokens_per_second": 12345.6,
    "mfu": 0.413,
    "reward": 0.5,
    "validation/ndcg@10": 0.5432,
}
TOLD = "loss 2.346  reward 0.500  nDCG@10 0.5432  445 k tokens  12,346 tokens/s  MFU 41.3%"


def run(steps: list[int], *, terminal: bool, shown: bool = True, every: float = 10.0) -> str:
    text = io.StringIO()
    console = Console(file=text, force_terminal=terminal, width=200)
    with training_bar(
        "s1", steps[-1], done=steps[0] - 1, shown=shown, console=console, every_seconds=every
    ) as show:
        for step in steps:
            show(step, METRICS)
    return text.getvalue()


def test_a_terminal_shows_a_bar() -> None:
    out = run([1, 2, 3], terminal=True)
    assert "s1" in out
    assert "3/3" in out
    assert TOLD in out


def test_a_log_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]

    def clock() -> float:
        now[0] += 4.0
        return now[0]

    monkeypatch.setattr("t1_jax.train.infra.console.time.monotonic", clock)
    lines = run([11, 12, 13, 14, 15, 16, 17], terminal=False).splitlines()
    assert lines == [
        f"s1 11/17  {TOLD}  left 0:00:24",
        f"s1 14/17  {TOLD}  left 0:00:12",
        f"s1 17/17  {TOLD}  left 0:00:00",
    ]


def test_nothing_is_shown_where_nothing_should_be() -> None:
    assert run([1, 2], terminal=True, shown=False) == ""


def test_metrics_that_are_absent_are_not_told() -> None:
    text = io.StringIO()
    with training_bar("s1", 5, console=Console(file=text, width=200)) as show:
        show(1, {"loss": 1.0})
    assert text.getvalue().startswith("s1 1/5  loss 1  left 0:00:")
