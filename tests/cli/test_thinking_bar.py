"""Speed and time left of thinking."""

from t1_jax.cli.thinking_bar import ThinkingRate, thinking_bar


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_tokens_per_second_and_the_time_left_leave_resumed_queries_out() -> None:
    clock = Clock()
    rate = ThinkingRate(1000, clock)
    clock.now = 5.0
    rate.add(400, 0)  # of an earlier run
    assert str(rate) == ""
    clock.now = 15.0
    rate.add(0, 3000)
    assert str(rate) == "300 tokens/s"
    rate.add(100, 1000)
    assert str(rate) == "400 tokens/s, 50 s left"


def test_without_a_total_there_is_no_time_left() -> None:
    clock = Clock()
    rate = ThinkingRate(None, clock)
    clock.now = 2.0
    rate.add(3, 80)
    assert str(rate) == "40 tokens/s"


def test_the_bar_shows_them(capsys) -> None:
    with thinking_bar(4) as progress:
        progress(2, 100)
    shown = capsys.readouterr().err
    assert "2/4 queries" in shown
    assert "tokens/s" in shown
