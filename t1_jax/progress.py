"""What people read about long work: progress bars, counts and durations."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from t1_jax.notebook import notebook_bar


@runtime_checkable
class Advance(Protocol):
    """Tells a bar that so many more units are done, and what else to show."""

    def __call__(self, units: int, note: str = "") -> None:
        """Adds units; `note` replaces the one that is shown."""


class _Rate(ProgressColumn):
    """Units per second since the start; for rich, units that end together took no time."""

    def render(self, task: Task) -> Text:
        seconds = task.finished_time or task.elapsed
        if not seconds or not task.completed:
            return Text("")
        rate = task.completed / seconds
        return Text(f"{rate:,.{0 if rate >= 10 else 1}f} {task.fields['unit']}/s")


@contextmanager
def track(description: str, total: int, unit: str, *, shown: bool) -> Iterator[Advance]:
    """A bar on standard error or in a notebook, or nothing at all where `shown` is false.

    Args:
        description: what is being done.
        total: units of work.
        unit: their name in the plural, for example `tokens`.
        shown: whether to draw the bar.
    """
    if not shown:
        yield lambda units, note="": None
        return
    console = Console(stderr=True)
    if console.is_jupyter:
        with notebook_bar(description, total, unit) as advance:
            yield advance
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TaskProgressColumn(),
        _Rate(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console) as progress:
        task = progress.add_task(description, total=total, unit=unit, note="")

        def advance(units: int, note: str = "") -> None:
            progress.update(task, advance=units, note=note)

        yield advance


_CONTROL_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}
_CONTROL_PICTURES[0x7F] = 0x2421


def visible(text: str) -> str:
    """The text with control characters shown as symbols, such as ␛ for escape."""
    return text.translate(_CONTROL_PICTURES)


def shorten(text: str, characters: int) -> str:
    """The text on one line, with an ellipsis if it has more characters."""
    words = " ".join(text.split())
    return words if len(words) <= characters else words[: characters - 1].rstrip() + "…"


def counted(count: int, things: str) -> str:
    """`2 queries without text`, and `1 query without text`: only the first plural is changed."""
    if count == 1:
        return "1 " + re.sub(r"(ie)?s\b", lambda end: "y" if end[1] else "", things, count=1)
    return f"{count:,} {things}"


def duration_text(seconds: float) -> str:
    """`40 s`, `7 min`, `2 h 05 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02} min"
