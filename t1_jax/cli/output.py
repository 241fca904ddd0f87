"""The output of a command: text for people, and one JSON object for programs."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from t1_jax import progress
from t1_jax.errors import T1Error


def visible(text: str) -> str:
    """The text with control characters shown as symbols, so that it cannot control the terminal.

    Unpaired surrogates, which arguments and file names may hold, are escaped.
    """
    return progress.visible(text).encode(errors="backslashreplace").decode()


def size_text(num_bytes: int) -> str:
    """`512 B`, `20 KiB`, `3 MiB`, `1.5 GiB`."""
    value = float(num_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


class Output:
    """Prints results to standard output and logs to standard error.

    With `--json` all text goes to standard error, and standard output holds one JSON object.
    """

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json
        self._console = Console(stderr=as_json)
        self._log_console = Console(stderr=True)

    def print(self, text: str = "", *, style: str = "") -> None:
        """Prints one line of the result; brackets and colons are not markup."""
        self._console.print(Text(visible(text), style=style), soft_wrap=True)

    def warn(self, text: str) -> None:
        """Prints one line that the user should not overlook."""
        self.print(text, style="yellow")

    def log(self, text: str) -> None:
        """Prints one line to standard error."""
        self._log_console.print(Text(visible(text)), soft_wrap=True)

    def render(self, renderable: RenderableType) -> None:
        """Prints a renderable of rich."""
        self._console.print(renderable)

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str | None = None
    ) -> None:
        """Prints a table; a column whose name ends in `>` is aligned to the right."""
        table = Table(title=title, title_justify="left")
        for column in columns:
            right = column.endswith(">")
            table.add_column(column.removesuffix(">"), justify="right" if right else "left")
        for row in rows:
            table.add_row(*(Text(visible(cell)) for cell in row))
        self._console.print(table)

    def result(self, **fields: object) -> None:
        """Prints the fields of the result as one JSON object if `--json` was given."""
        if self.as_json:
            print(json.dumps(fields, ensure_ascii=False, default=_to_json))


def print_error(error: T1Error, *, as_json: bool) -> None:
    """Prints an error and its hint to standard error.

    With `--json` also `{"error": {"kind": ..., "message": ..., "hint": ...}}` to standard output.
    """
    console = Console(stderr=True)
    console.print(Text.assemble(("error: ", "bold red"), visible(error.message)), soft_wrap=True)
    if error.hint is not None:
        console.print(Text.assemble(("  hint: ", "bold"), visible(error.hint)), soft_wrap=True)
    if as_json:
        fields = {"kind": type(error).__name__, "message": error.message, "hint": error.hint}
        print(json.dumps({"error": fields}, ensure_ascii=False))
    sys.stdout.flush()


def _to_json(value: object) -> Any:
    """A JSON value for a path, a set or a NumPy scalar."""
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, frozenset | set):
        return sorted(value)
    return value.item()  # pyright: ignore[reportAttributeAccessIssue]
