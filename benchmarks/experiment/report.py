"""Writes the tables and plots of docs/experiment.md from the results.

    python -m benchmarks.experiment.report [KEY=VALUE ...]

Tables are between `<!-- table:NAME -->` and `<!-- end -->`; the rest of the page is unchanged.
"""

import argparse
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.experiment.collected import Collected, collect
from benchmarks.experiment.plan import PLAN, Plan, load_plan
from benchmarks.experiment.plots import draw
from benchmarks.experiment.tables import TABLES
from t1_jax.cli.output import print_error
from t1_jax.config import suggestion
from t1_jax.errors import DataError, T1Error
from t1_jax.files import write_atomically

PAGE = Path("docs/experiment.md")

_MARKED = re.compile(r"(<!-- table:([^ ]+) -->\n).*?(<!-- end -->)", re.DOTALL)


def main(arguments: Sequence[str] | None = None) -> int:
    """Writes the page; see the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE", help="fields of the plan")
    parser.add_argument("--plan", type=Path, default=PLAN)
    parser.add_argument("--page", type=Path, default=PAGE)
    parser.add_argument("--tables-only", action="store_true", help="draw no pictures")
    options = parser.parse_args(arguments)
    try:
        plan = load_plan(options.plan, tuple(options.settings))
        written = write_page(plan, options.page, pictures=not options.tables_only)
    except T1Error as error:
        print_error(error, as_json=False)
        return 2
    print("\n".join(map(str, written)))
    return 0


def write_page(plan: Plan, page: Path, *, pictures: bool = True) -> list[Path]:
    """Updates a page and the plots in the folder of its name; returns the files.

    Raises:
        DataError: results that are not comparable, or a page with an unknown marker.
        UnsupportedError: matplotlib is not installed.
    """
    collected = collect(plan.results, plan.split)
    try:
        text = page.read_text(encoding="utf-8")
    except OSError as error:
        raise DataError(
            f"{page} cannot be read: {error.strerror}", hint="give the page with --page"
        ) from error
    write_atomically(page, renewed(text, plan, collected))
    return [page, *(draw(plan, collected, page.with_suffix("")) if pictures else [])]


def renewed(text: str, plan: Plan, collected: Collected) -> str:
    """The page's text with every marked table written from the results.

    Raises:
        DataError: a marker that names no table, or one without an end.
    """

    def table(marked: re.Match[str]) -> str:
        name = marked[2]
        if name not in TABLES:
            raise DataError(f"there is no table {name!r}", hint=suggestion(name, TABLES))
        return f"{marked[1]}{TABLES[name](plan, collected)}\n{marked[3]}"

    if text.count("<!-- table:") != len(_MARKED.findall(text)):
        raise DataError(
            "a table of the page has no end", hint="write <!-- end --> on a line after each table"
        )
    return _MARKED.sub(table, text)


if __name__ == "__main__":
    sys.exit(main())
