"""The results as Markdown: one table of checks, one of speeds, each figure with its roofline."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

Results = Mapping[str, Mapping[str, Any]]


def markdown(results: Results) -> str:
    """The whole report; figures carry the card's name and the versions they were measured with."""
    facts = results.get("machine", {}).get("facts", {})
    card = facts.get("card", "unknown card")
    lines = [f"Measured on: {card}", ""]
    lines += [f"- {name}: {value}" for name, value in facts.items() if name != "card"]
    lines += ["", *_table(["part", "status", "seconds"], _parts(results))]
    checks = list(_checks(results))
    if checks:
        lines += ["", *_table(["part", "check", "found", "bound", "holds"], checks)]
    speeds = list(_speeds(results))
    if speeds:
        header = ["part", "measured", "value", "unit", "share of the ceiling", "ceiling", "note"]
        lines += ["", *_table(header, speeds)]
    skipped = [
        [part, row["name"], row["skipped"]] for part, row in _rows(results) if "skipped" in row
    ]
    if skipped:
        lines += ["", *_table(["part", "not done", "why"], skipped)]
    return "\n".join(lines) + "\n"


def _rows(results: Results) -> Iterable[tuple[str, Mapping[str, Any]]]:
    for part, found in results.items():
        for row in found.get("rows", ()):
            yield part, row


def _parts(results: Results) -> list[list[str]]:
    return [
        [part, str(found["status"]), f"{found['wall_s']:.0f}"] for part, found in results.items()
    ]


def _checks(results: Results) -> Iterable[list[str]]:
    for part, row in _rows(results):
        if "error" in row:
            yield [part, row["name"], row["error"], "", "no"]
        elif "passed" in row:
            holds = "yes" if row["passed"] else "**no**"
            yield [part, row["name"], f"{row['found']:.3g}", row["bound"], holds]


def _speeds(results: Results) -> Iterable[list[str]]:
    for part, row in _rows(results):
        if "value" not in row:
            continue
        share = row.get("share")
        told = "" if share is None else f"{100 * share:.1f} %"
        of, note = row.get("of", ""), row.get("note", "")
        yield [part, row["name"], _number(row["value"]), row["unit"], told, of, note]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [list(header), ["---"] * len(header), *rows]
    return ["| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines]
