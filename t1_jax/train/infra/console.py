"""Progress of a run: a bar on a terminal, and lines at intervals in a log file."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


class Show(Protocol):
    """Shows the number of steps done and their metrics."""

    def __call__(self, step: int, metrics: Mapping[str, float | int], /) -> None:
        """Shows `step` steps done."""
        ...


@contextmanager
def training_bar(
    description: str,
    total: int,
    *,
    done: int = 0,
    shown: bool = True,
    console: Console | None = None,
    every_seconds: float = 10.0,
) -> Iterator[Show]:
    """Shows step, loss, tokens, tokens per second, MFU and time left on standard error.

    `shown=False` shows nothing, as on processes other than the first. `every_seconds` is the time
    between two lines if the console is not a terminal.
    """
    console = console or Console(stderr=True)
    if not shown:
        yield lambda step, metrics: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[summary]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(description, total=total, completed=done, summary="")
            yield lambda step, metrics: progress.update(
                task, completed=step, summary=summary(metrics)
            )
    else:
        yield _Lines(description, total, done, console, every_seconds)


def summary(metrics: Mapping[str, float | int]) -> str:
    """The most important metrics as one short text."""
    return "  ".join(text(metrics[name]) for name, text in _SHOWN.items() if name in metrics)


def _short(count: float) -> str:
    """A count in thousands or millions."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


_SHOWN: Mapping[str, Callable[[float], str]] = {
    "loss": "loss {:.4g}".format,
    "reward": "reward {:.3f}".format,
    "validation/ndcg@10": "nDCG@10 {:.4f}".format,
    "tokens": lambda count: f"{_short(count)} tokens",
    "tokens_per_second": "{:,.0f} tokens/s".format,
    "mfu": "MFU {:.1%}".format,
}


class _Lines:
    """Prints a line every `every_seconds`, and one for the last step."""

    def __init__(
        self, description: str, total: int, done: int, console: Console, every_seconds: float
    ) -> None:
        self._description, self._total, self._done = description, total, done
        self._console, self._every = console, every_seconds
        self._started_at = time.monotonic()
        self._printed_at: float | None = None

    def __call__(self, step: int, metrics: Mapping[str, float | int], /) -> None:
        now = time.monotonic()
        is_early = self._printed_at is not None and now - self._printed_at < self._every
        if is_early and step < self._total:
            return
        self._printed_at = now
        seconds = (now - self._started_at) / max(step - self._done, 1) * (self._total - step)
        left = f"left {int(seconds) // 3600}:{int(seconds) % 3600 // 60:02}:{int(seconds) % 60:02}"
        line = f"{self._description} {step}/{self._total}  {summary(metrics)}  {left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
