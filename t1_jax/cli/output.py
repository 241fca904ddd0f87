"""Where a command writes: words for people, and one JSON object for machines."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from t1_jax.errors import T1Error

_PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {0x7F: 0x2421}


def visible(text: str) -> str:
    """The text with control characters drawn: texts and thoughts must not steer the terminal.

    Halves of surrogate pairs, which arguments and file names may hold, are escaped.
    """
    return text.translate(_PICTURES).encode(errors="backslashreplace").decode()


class Output:
    """The two channels of a command.

    For people, results go to standard output and progress to standard error. With `--json` all
    words go to standard error, and standard output holds one JSON object and nothing else.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(stderr=as_json)
        self._progress = Console(stderr=True)

    def say(self, text: str = "", *, style: str = "") -> None:
        """Prints a line for people; brackets and colons in it are no markup."""
        self._console.print(Text(visible(text), style=style), soft_wrap=True)

    def note(self, text: str) -> None:
        """Prints a line about progress, on standard error in any case."""
        self._progress.print(Text(visible(text)), soft_wrap=True)

    def show(self, what: RenderableType) -> None:
        """Prints anything rich can draw, for people."""
        self._console.print(what)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
    ) -> None:
        """Prints a table for people; a column whose name ends in `>` is aligned to the right."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            right = column.endswith(">")
            table.add_column(column.removesuffix(">"), justify="right" if right else "left")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        self._console.print(table)

    def result(self, fields: Mapping[str, Any]) -> None:
        """The command's result for machines; printed with `--json` only."""
        if self.as_json:
            print(json.dumps(fields, ensure_ascii=False, default=_plain))


def print_error(error: T1Error, *, as_json: bool) -> None:
    """What went wrong and its hint, on standard error; with `--json` an object on standard output.

    The object is `{"error": {"kind": ..., "message": ..., "hint": ...}}`.
    """
    console = Console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), visible(error.message)), soft_wrap=True)
    if error.hint is not None:
        console.print(Text.assemble(("  hint: ", "bold"), visible(error.hint)), soft_wrap=True)
    if as_json:
        fields = {
            "kind": type(error).__name__,
            "message": error.message,
            "hint": error.hint,
        }
        print(json.dumps({"error": fields}, ensure_ascii=False))
    sys.stdout.flush()


def _plain(value: object) -> Any:
    """What JSON has no form for: paths, tuples of other types, numpy's scalars."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    return value.item()  # pyright: ignore[reportAttributeAccessIssue]
