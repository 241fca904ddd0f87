"""The progress of thinking about many queries: queries done, tokens per second, time left."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from t1_jax.progress import duration_text


class ThinkingRate:
    """Speed and time left, from what this run has done; resumed queries took no time.

    Args:
        total: queries in all; None if unknown.
        clock: returns seconds.
    """

    def __init__(self, total: int | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._total, self._clock, self._start = total, clock, clock()
        self._done = self._resumed = self._tokens = 0

    def add(self, queries: int, tokens: int) -> None:
        """Counts finished queries, and tokens that were sampled or read from a cache."""
        self._tokens += tokens
        self._done += queries
        if not self._tokens:
            self._resumed = self._done
            self._start = self._clock()

    def __str__(self) -> str:
        seconds = self._clock() - self._start
        if not self._tokens or seconds <= 0:
            return ""
        text = f"{self._tokens / seconds:,.0f} tokens/s"
        finished = self._done - self._resumed
        if self._total is None or not finished:
            return text
        left = (self._total - self._done) * seconds / finished
        return f"{text}, {duration_text(left)} left"


@contextmanager
def thinking_bar(total: int | None) -> Iterator[Callable[[int, int], None]]:
    """A bar on standard error; the function that it yields counts queries and tokens."""
    rate = ThinkingRate(total)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        MofNCompleteColumn(),
        TextColumn("queries"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[rate]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("thinking", total=total, rate="")

        def advance(queries: int, tokens: int) -> None:
            rate.add(queries, tokens)
            progress.update(task, advance=queries, rate=str(rate))

        yield advance
