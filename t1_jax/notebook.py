"""What notebooks show: HTML of thoughts and hits, and a progress bar that needs no widgets."""

import html
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_SECONDS_BETWEEN_UPDATES = 0.2


_MARK = '<mark style="background: #fff0b8; color: #1d1f24">'


def card(title: str, text: str, footer: str = "", *, mark: str = "") -> str:
    """A box with a title, a text whose line breaks are kept, and a footer, in a page's own colors.

    All are escaped. The first occurrence of `mark` in the text is highlighted.
    """
    before, found, after = text.partition(mark) if mark else (text, "", "")
    body = html.escape(before)
    if found:
        body += f"{_MARK}{html.escape(found)}</mark>{html.escape(after)}"
    return (
        '<div style="border-left: 3px solid #17596b; padding: .3em 1em; margin: .4em 0">'
        f'<div style="opacity: .7; font-size: .85em">{html.escape(title)}</div>'
        f'<div style="white-space: pre-wrap">{body}</div>'
        f'<div style="opacity: .7; font-size: .85em">{html.escape(footer)}</div></div>'
    )


@contextmanager
def notebook_bar(description: str, total: int, unit: str) -> Iterator[Callable[..., None]]:
    """A progress bar in the output of a notebook cell, redrawn in place."""
    from IPython.display import HTML, display

    start = drawn = time.perf_counter()
    done = 0
    handle = display(HTML(_bar(description, 0, total, unit, 0.0)), display_id=True)

    def advance(units: int, note: str = "") -> None:
        nonlocal done, drawn
        done += units
        now = time.perf_counter()
        if handle is not None and (now - drawn >= _SECONDS_BETWEEN_UPDATES or done >= total):
            bar = _bar(description, done, total, unit, now - start)
            handle.update(HTML(bar + html.escape(f" {note}" if note else "")))
            drawn = now

    yield advance


def _bar(description: str, done: int, total: int, unit: str, seconds: float) -> str:
    rate = f", {done / seconds:,.0f} {unit}/s" if seconds and done else ""
    left = f", {(total - done) * seconds / done:.0f} s left" if 0 < done < total else ""
    return (
        f'{html.escape(description)} <progress value="{done}" max="{max(total, 1)}"></progress> '
        f"{done:,} of {total:,} {html.escape(unit)}{rate}, {seconds:.0f} s elapsed{left}"
    )
