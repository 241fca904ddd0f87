"""The one table: retrievers and controls down, collections across, and what thinking was worth."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from t1_jax.evaluate.bootstrap import LEVEL, Interval, PairedDifference
from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.notes import evaluation_notes
from t1_jax.evaluate.results import Evaluation, Row

_BEST = "*"
_FEW = 30
"""Below so many queries a percentile interval is much too narrow to call anything by it."""
_LEGEND = (
    f"[low, high]: 95 % bootstrap interval over queries. {_BEST} best of those that have not seen "
    "the answers."
)


class ResultsTable:
    """The table for a terminal: all collections side by side where they fit, else one by one."""

    def __init__(self, evaluations: Sequence[Evaluation]) -> None:
        self._evaluations = list(evaluations)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        whole = _table(self._evaluations)
        fits = Measurement.get(console, options.update(width=1000), whole).maximum
        if fits <= options.max_width:
            yield whole
        else:
            yield from (_table([evaluation]) for evaluation in self._evaluations)
        for line in self._notes():
            yield Padding(line, (0, 1))

    def _notes(self) -> Iterator[RenderableType]:
        for evaluation in self._evaluations:
            if sentence := comparison_sentence(evaluation):
                yield Text(sentence)
            for note in evaluation_notes(evaluation):
                yield Text(note, style="yellow")
        yield Text(_LEGEND, style="dim")


def comparison_sentence(evaluation: Evaluation, system: str | None = None) -> str | None:
    """What the own thought adds to no thought, and whether the queries can tell; None without both.

    Args:
        evaluation: of one collection.
        system: whose thought; default the first system's.
    """
    own, without = evaluation.control("own", system), evaluation.control("no-think", system)
    if own is None or without is None:
        return None
    measure = HEADLINE[0]
    found = evaluation.compare(own, without, measure)
    return (
        f"{evaluation.title}: own thought minus no thought, {measure} "
        f"{signed(found.difference)} [{signed(found.low)}, {signed(found.high)}], "
        f"{format_p(found.p_value)}, "
        f"{found.queries} queries ({found.better} better, {found.worse} worse): {_verdict(found)}."
    )


def _verdict(found: PairedDifference) -> str:
    if found.queries < _FEW:
        return f"fewer than {_FEW} queries are too few for a verdict"
    if not found.excludes_zero or found.p_value >= 1 - LEVEL:
        return "these queries cannot tell the two apart"
    return "thinking helps here" if found.difference > 0 else "thinking hurts here"


def signed(value: float) -> str:
    """Three digits with a true sign; nothing that rounds to zero gets one."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def format_p(p_value: float) -> str:
    """A p-value to two digits, `p = 0.12`; small ones as a bound."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def to_markdown(evaluations: Sequence[Evaluation]) -> str:
    """The table, the comparisons and the legend as Markdown."""
    columns = [(evaluation, measure) for evaluation in evaluations for measure in HEADLINE]
    headings = [f"{evaluation.title} {measure}" for evaluation, measure in columns]
    lines = ["| " + " | ".join(["Retriever", *headings]) + " |", "|---|" + "---:|" * len(columns)]
    for name, label in row_names(evaluations).items():
        cells = []
        for evaluation, measure in columns:
            interval = _interval(evaluation, name, measure)
            text = "–" if interval is None else format_interval(interval)
            cells.append(f"**{text}**" if _is_best(evaluation, name, measure) else text)
        lines.append("| " + " | ".join([_markdown(label), *cells]) + " |")
    notes = [sentence for each in evaluations if (sentence := comparison_sentence(each))]
    notes += [note for each in evaluations for note in evaluation_notes(each)]
    legend = _LEGEND.replace(f"{_BEST} best", "Bold: best")
    return "\n".join([*lines, "", *(f"{_markdown(note)}\n" for note in notes), legend, ""])


def format_interval(interval: Interval) -> str:
    """`0.343 [0.310, 0.375]`."""
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def row_names(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Name -> label of every row, in the order in which they first stand."""
    return {row.name: row.label for evaluation in evaluations for row in evaluation.rows}


def _table(evaluations: Sequence[Evaluation]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("", no_wrap=True)
    for evaluation in evaluations:
        heading = f"{evaluation.title} ({len(evaluation.query_ids)} queries)"
        for place, measure in enumerate(HEADLINE):
            table.add_column(f"{'' if place else heading}\n{measure}", no_wrap=True)
    for name, label in row_names(evaluations).items():
        cells = [
            _cell(evaluation, name, measure) for evaluation in evaluations for measure in HEADLINE
        ]
        oracle = any(_is_oracle(evaluation, name) for evaluation in evaluations)
        table.add_row(Text(label), *cells, style="dim italic" if oracle else "")
    return table


def _cell(evaluation: Evaluation, name: str, measure: str) -> Text:
    interval = _interval(evaluation, name, measure)
    if interval is None:
        return Text("–")
    best = _is_best(evaluation, name, measure)
    text = Text(f"{interval.mean:.3f}{_BEST if best else ' '}", style="bold" if best else "")
    text.append(f" [{interval.low:.3f}, {interval.high:.3f}]", style="not bold dim")
    return text


def _interval(evaluation: Evaluation, name: str, measure: str) -> Interval | None:
    return evaluation.intervals.get(name, {}).get(measure)


def _is_best(evaluation: Evaluation, name: str, measure: str) -> bool:
    return evaluation.best_row(measure).name == name


def _is_oracle(evaluation: Evaluation, name: str) -> bool:
    rows: list[Row] = [row for row in evaluation.rows if row.name == name]
    return any(row.oracle for row in rows)


def _markdown(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
