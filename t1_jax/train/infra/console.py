"""What a person sees of a run: a bar on a terminal, a line now and then in a log file."""

import time
from collections.abc import Iterator, Mapping
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
    """Shows that so many steps are done, with their metrics."""

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
    """Step, loss, tokens in all and a second, MFU and time left, on standard error.

    Args:
        description: of the bar, for example the stage's name.
        total: steps of the run.
        done: steps already done when it was resumed.
        shown: false shows nothing at all, as on processes other than the first.
        console: where to; standard error by default.
        every_seconds: between two lines where the console is no terminal.
    """
    console = console or Console(stderr=True)
    if not shown:
        yield lambda step, metrics: None
    elif console.is_terminal:
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[told]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
        )
        with Progress(*columns, console=console) as progress:
            task = progress.add_task(description, total=total, completed=done, told="")
            yield lambda step, metrics: progress.update(task, completed=step, told=told(metrics))
    else:
        yield _Lines(description, total, done, console, every_seconds)


def told(metrics: Mapping[str, float | int]) -> str:
    """The few metrics that a person watches, in one short text."""
    parts = []
    if "loss" in metrics:
        parts.append(f"loss {metrics['loss']:.4g}")
    if "reward" in metrics:
        parts.append(f"reward {metrics['reward']:.3f}")
    if "validation/ndcg@10" in metrics:
        parts.append(f"nDCG@10 {metrics['validation/ndcg@10']:.4f}")
    if "tokens" in metrics:
        parts.append(f"{_short(metrics['tokens'])} tokens")
    if "tokens_per_second" in metrics:
        parts.append(f"{metrics['tokens_per_second']:,.0f} tokens/s")
    if "mfu" in metrics:
        parts.append(f"MFU {metrics['mfu']:.1%}")
    return "  ".join(parts)


def _short(count: float) -> str:
    """A count in thousands or millions."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.0f}"


class _Lines:
    """A line every so many seconds, and one for the last step."""

    def __init__(
        self, description: str, total: int, done: int, console: Console, every_seconds: float
    ) -> None:
        self._description, self._total, self._done = description, total, done
        self._console, self._every = console, every_seconds
        self._started_at = time.monotonic()
        self._said_at: float | None = None

    def __call__(self, step: int, metrics: Mapping[str, float | int], /) -> None:
        now = time.monotonic()
        is_early = self._said_at is not None and now - self._said_at < self._every
        if is_early and step < self._total:
            return
        self._said_at = now
        seconds = (now - self._started_at) / max(step - self._done, 1) * (self._total - step)
        left = f"left {int(seconds) // 3600}:{int(seconds) % 3600 // 60:02}:{int(seconds) % 60:02}"
        line = f"{self._description} {step}/{self._total}  {told(metrics)}  {left}"
        self._console.print(line, highlight=False, markup=False, soft_wrap=True)
