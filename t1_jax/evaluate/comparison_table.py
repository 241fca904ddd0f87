"""A comparison of two runs as a table for the terminal, Markdown and LaTeX."""

import re
from collections.abc import Mapping, Sequence

from t1_jax.evaluate.compare import FEW_QUERIES, Comparison, RunComparison
from t1_jax.evaluate.table import escape_markdown, format_p, signed

HEADINGS = ("", "metric", "A", "B", "B − A", "p", "B wins", "ties", "B loses")
"""Columns of `comparison_rows`."""


def comparison_rows(comparison: RunComparison) -> list[tuple[str, ...]]:
    """The cells of the table; the columns are `HEADINGS`."""
    return [
        (
            item.title,
            item.metric,
            f"{item.first:.3f}",
            f"{item.second:.3f}",
            f"{signed(item.difference.difference)} [{signed(item.difference.low)}, "
            f"{signed(item.difference.high)}]",
            format_p(item.p_value).removeprefix("p = ").removeprefix("p "),
            str(item.difference.better),
            str(item.difference.equal),
            str(item.difference.worse),
        )
        for item in comparison.comparisons
    ]


def verdict(item: Comparison) -> str:
    """What the comparison shows, in a few words."""
    if item.difference.queries < FEW_QUERIES:
        return f"fewer than {FEW_QUERIES} queries are too few for a verdict"
    if not item.significant:
        return "no significant difference"
    return "B is better" if item.difference.difference > 0 else "A is better"


def comparison_legend(comparison: RunComparison) -> list[str]:
    """The sentences under the table."""
    lines = [f"A: {comparison.first}", f"B: {comparison.second}"]
    lines += [f"{item.title}, {item.metric}: {verdict(item)}." for item in comparison.comparisons]
    lines += [f"{caveat}." for caveat in comparison.caveats]
    tests = len(comparison.comparisons)
    lines.append(
        "[low, high]: paired 95 % bootstrap interval over queries. p: paired randomization test, "
        f"two-sided{'' if tests == 1 else f', not corrected for {tests} tests'}."
    )
    return lines


def extreme_queries(
    gains: Mapping[str, float], most: int
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """The queries that the second run wins and loses by most, largest difference first."""
    ordered = sorted(gains.items(), key=lambda item: (-item[1], item[0]))
    won = [item for item in ordered if item[1] > 0][:most]
    lost = [item for item in reversed(ordered) if item[1] < 0][:most]
    return won, lost


def comparison_as_markdown(comparison: RunComparison) -> str:
    """The table and its legend as Markdown."""
    rows = [HEADINGS, *comparison_rows(comparison)]
    head, *body = ["| " + " | ".join(map(escape_markdown, row)) + " |" for row in rows]
    ruler = "|---|---|" + "---:|" * (len(HEADINGS) - 2)
    legend = [f"{escape_markdown(line)}\n" for line in comparison_legend(comparison)]
    return "\n".join([head, ruler, *body, "", *legend])


def comparison_as_latex(comparison: RunComparison) -> str:
    """The table as LaTeX for booktabs, with its legend as comments."""

    def line(cells: Sequence[str]) -> str:
        return "  " + " & ".join(map(_latex, cells)) + r" \\"

    return "\n".join(
        [
            *(f"% {text}" for text in comparison_legend(comparison)),
            r"\begin{tabular}{ll" + "r" * (len(HEADINGS) - 2) + "}",
            r"  \toprule",
            line(HEADINGS),
            r"  \midrule",
            *map(line, comparison_rows(comparison)),
            r"  \bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def _latex(text: str) -> str:
    escaped = re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))
    return escaped.replace("−", "$-$").replace("<", "$<$").replace("~", r"\textasciitilde ")
