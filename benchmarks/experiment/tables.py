"""The tables of docs/experiment.md, computed from the results; what is not measured has no row."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence

from benchmarks.experiment.collected import Collected
from benchmarks.experiment.plan import Plan
from benchmarks.experiment.results import METRICS
from t1_jax.evaluate import CONTROLS, Interval, PairedDifference
from t1_jax.evaluate.table import format_interval, format_p, signed

NOTHING = "*Not measured yet.*"
_NONE = "–"

Table = Callable[[Plan, Collected], str]


def main_table(plan: Plan, collected: Collected) -> str:
    """Systems as rows, collections as columns."""
    header = ["system", *_columns(plan, METRICS), "training tokens"]
    rows = [
        [
            system.label,
            *(
                _interval(collected.interval(name, system.main_row, collection, metric))
                for collection in plan.collections
                for metric in METRICS
            ),
            _tokens(collected.training_tokens(name)),
        ]
        for name, system in plan.systems.items()
        if system.against is None and _has_row(plan, collected, name, system.main_row)
    ]
    queries = " and ".join(
        f"{len(collected.query_ids[name])} {plan.split} queries of {name}"
        for name in plan.collections
        if name in collected.query_ids
    )
    return _table(header, rows, f"{queries}. [low, high]: 95 % bootstrap interval over queries.")


def controls_table(plan: Plan, collected: Collected) -> str:
    """For each collection, controls as rows and systems that think as columns."""
    parts = []
    for collection in plan.collections:
        thinking = [
            name
            for name, system in plan.systems.items()
            if system.kind == "t1"
            and system.against is None
            and (name, "own", collection) in collected.rows
        ]
        rows = [
            [
                control.label,
                *(
                    _interval(collected.interval(name, control.name, collection))
                    for name in thinking
                ),
            ]
            for control in CONTROLS.values()
            if any((name, control.name, collection) in collected.rows for name in thinking)
        ]
        own = [collected.rows[name, "own", collection] for name in thinking]
        rows += [
            ["mean tokens, own thought", *(_number(row.mean_tokens, 1) for row in own)],
            ["truncated, own thought", *(_percent(row.truncated_frac) for row in own)],
        ]
        header = [f"{collection}, {METRICS[0]}", *(plan.systems[name].label for name in thinking)]
        if thinking:
            parts.append(_table(header, rows))
    return "\n\n".join(parts) or NOTHING


def comparisons_table(plan: Plan, collected: Collected) -> str:
    """Paired differences, one row per comparison and collection."""
    rows = []
    for comparison in plan.comparisons.values():
        sides = plan.row_of(comparison.first), plan.row_of(comparison.second)
        for collection in plan.collections:
            found = [collected.difference(*sides, collection, metric) for metric in METRICS]
            if found[0] is None:
                continue
            better = f"{found[0].better} / {found[0].worse}"
            rows.append(
                [
                    comparison.label,
                    collection,
                    _difference(found[0]),
                    format_p(found[0].p_value),
                    better,
                    _difference(found[1]),
                ]
            )
    header = ["difference", "collection", METRICS[0], "p", "queries better / worse", METRICS[1]]
    return _table(header, rows)


def samples_table(plan: Plan, collected: Collected) -> str:
    """Scores and cost by number of thoughts, for the reference system."""
    name = plan.reference
    ways = {"no-think": "no thought", "own": "1, greedy"}
    for k in plan.samples:
        for collection in plan.collections:
            if found := collected.result(name, f"samples-{k}", collection):
                heat = found.provenance.settings["sampling"]["temperature"]
                ways[f"samples-{k}"] = f"{k}, sampled at temperature {heat:g}"
    header = ["thoughts"]
    for collection in plan.collections:
        header += [f"{collection} {METRICS[0]}", "tokens per query", "seconds per query"]
    rows = []
    for row, label in ways.items():
        cells = [label]
        for collection in plan.collections:
            scores = collected.rows.get((name, row, collection))
            drawn = None if scores is None else scores.mean_tokens
            thoughts = int(row.removeprefix("samples-")) if row.startswith("samples-") else 1
            cells += [
                _interval(collected.interval(name, row, collection)),
                _number(None if drawn is None else drawn * thoughts, 1),
                _number(_seconds(collected, name, collection).get(row), 3),
            ]
        if _has_row(plan, collected, name, row):
            rows.append(cells)
    return _table(header, rows)


def budget_table(plan: Plan, collected: Collected) -> str:
    """Scores by the limit on thought tokens, below their plot."""
    points = {name: budget_points(plan, collected, name) for name in plan.collections}
    budgets = sorted(
        {max_thought_tokens for found in points.values() for max_thought_tokens in found}
    )
    rows = [
        [
            str(max_thought_tokens),
            *(_interval(points[name].get(max_thought_tokens)) for name in plan.collections),
        ]
        for max_thought_tokens in budgets
    ]
    header = ["max thought tokens", *(f"{name} {METRICS[0]}" for name in plan.collections)]
    picture = "![nDCG@10 by max thought tokens](experiment/budget.svg)\n\n"
    return (picture if rows else "") + _table(header, rows)


def budget_points(plan: Plan, collected: Collected, collection: str) -> dict[int, Interval]:
    """Maximum thought tokens -> nDCG@10 of the reference system; 0 is the empty thought."""
    name = plan.reference
    points = {0: collected.interval(name, "empty", collection)}
    for result in collected.results:
        is_own = result.measurement == "controls" or result.measurement.startswith("budget-")
        if result.system == name and result.collection == collection and is_own:
            row = "own" if result.measurement == "controls" else result.measurement
            points[result.provenance.settings["max_thought_tokens"]] = collected.interval(
                name, row, collection
            )
    return {
        max_thought_tokens: point
        for max_thought_tokens, point in sorted(points.items())
        if point is not None
    }


def cost_table(plan: Plan, collected: Collected) -> str:
    """Seconds per query and per document, and the machine they were measured on."""
    header = ["system"]
    for collection in plan.collections:
        header += [
            f"{collection}: query, no thought",
            f"{collection}: query, own thought",
            f"{collection}: document",
        ]
    rows, machines = [], {}
    for name, system in plan.systems.items():
        cells, timed = [system.label], False
        for collection in plan.collections:
            seconds = _seconds(collected, name, collection)
            timed = timed or bool(seconds)
            cells += [_number(seconds.get(key), 4) for key in ("no-think", "own", "document")]
            if found := collected.result(name, "cost", collection):
                facts = found.facts["hardware"]
                machines[f"{facts.get('processor', 'unknown processor')}, "
                         f"{facts.get('cores', '?')} cores"] = None  # fmt: skip
        if timed:
            rows.append(cells)
    note = (
        f"Seconds per item in large batches, without compilation. Machine: {'; '.join(machines)}."
    )
    return _table(header, rows, note)


def ablation_table(plan: Plan, collected: Collected) -> str:
    """Each ablation below the system it is compared with."""
    header = ["system"]
    for collection in plan.collections:
        header += [f"{collection} {METRICS[0]}", "difference"]
    header.append("training tokens")
    shown: dict[str, str | None] = {}
    for name, system in plan.systems.items():
        if system.against is not None and _has_row(plan, collected, name, system.main_row):
            shown.setdefault(system.against, None)
            shown[name] = system.against
    rows = []
    for name, against in shown.items():
        system = plan.systems[name]
        cells = [system.label]
        for collection in plan.collections:
            cells.append(_interval(collected.interval(name, system.main_row, collection)))
            found = None
            if against is not None:
                sides = plan.row_of(name), plan.row_of(against)
                found = collected.difference(*sides, collection, METRICS[0])
            cells.append(_NONE if found is None else _difference(found))
        rows.append([*cells, _tokens(collected.training_tokens(name))])
    return _table(header, rows)


def examples_table(plan: Plan, collected: Collected) -> str:
    """The first distinct queries of each collection, with the thought of the reference system."""
    name, rows = plan.reference, []
    for collection in plan.collections:
        own = collected.rows.get((name, "own", collection))
        without = collected.rows.get((name, "no-think", collection))
        if own is None:
            continue
        places = {id: place for place, id in enumerate(collected.query_ids[collection])}
        texts: set[str] = set()
        for example in own.examples:
            if example["query"] in texts:
                continue
            texts.add(example["query"])
            place = places[example["query_id"]]
            rows.append(
                [
                    _text(example["query"]),
                    _text(example["thought"]),
                    _number(own.values[METRICS[0]][place], 2),
                    _NONE if without is None else _number(without.values[METRICS[0]][place], 2),
                ]
            )
    return _table(["query", "thought", f"{METRICS[0]} with it", "without"], rows)


def curves_table(plan: Plan, collected: Collected) -> str:
    """The plot of validation during training."""
    picture = "![nDCG@10 of validation queries during training](experiment/validation.svg)"
    return picture if collected.curves else NOTHING


TABLES: Mapping[str, Table] = {
    "main": main_table,
    "comparisons": comparisons_table,
    "controls": controls_table,
    "samples": samples_table,
    "budget": budget_table,
    "cost": cost_table,
    "curves": curves_table,
    "ablations": ablation_table,
    "examples": examples_table,
}
"""Tables by their name in the page's markers."""


def _columns(plan: Plan, metrics: Iterable[str]) -> list[str]:
    return [f"{name} {metric}" for name in plan.collections for metric in metrics]


def _has_row(plan: Plan, collected: Collected, system: str, row: str) -> bool:
    return any((system, row, name) in collected.rows for name in plan.collections)


def _seconds(collected: Collected, system: str, collection: str) -> Mapping[str, float]:
    found = collected.result(system, "cost", collection)
    return {} if found is None else found.seconds


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], note: str = "") -> str:
    if not rows:
        return NOTHING
    lines = [header, ["---"] * len(header), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    return f"{table}\n\n{note}" if note else table


def _interval(found: Interval | None) -> str:
    return _NONE if found is None else format_interval(found)


def _difference(found: PairedDifference | None) -> str:
    if found is None:
        return _NONE
    return f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}]"


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"


def _percent(share: float | None) -> str:
    return _NONE if share is None else f"{100 * share:.0f} %"


def _tokens(count: int | None) -> str:
    return _NONE if count is None else f"{count:,}"


def _text(text: str, most: int = 200) -> str:
    """Arbitrary text as a table cell: one line, markup escaped, truncated."""
    line = " ".join(text.split())
    line = line if len(line) <= most else line[: most - 1] + "…"
    return re.sub(r"([\\|<>*_`\[\]])", r"\\\1", line)
