"""The results table: retrievers and controls as rows, collections as columns, with notes."""

from collections.abc import Iterator, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.measure import Measurement
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from t1_jax.evaluate.bootstrap import LEVEL, Interval, PairedDifference
from t1_jax.evaluate.compare import FEW_QUERIES
from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.results import Evaluation, Row
from t1_jax.progress import counted

_BEST = "*"
_LEGEND = (
    f"[low, high]: 95 % bootstrap interval over queries. {_BEST} best row that has not seen the "
    "answers."
)


class ResultsTable:
    """The table for a terminal: collections side by side if they fit, otherwise one by one."""

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
            for sentence in comparison_sentences(evaluation):
                yield Text(sentence)
            for note in evaluation_notes(evaluation):
                yield Text(note, style="yellow")
        yield Text(_LEGEND, style="dim")


_COMPARED = (
    ("own", "no-think", "own thought minus no thought", ("thinking helps", "thinking hurts")),
    ("verified", "own", "verified minus not verified", ("verifying helps", "verifying hurts")),
    (
        "candidates",
        "own",
        "own thought over candidates minus own thought",
        ("candidates help", "candidates hurt"),
    ),
    (
        "candidates",
        "candidates-empty",
        "own thought over candidates minus candidates with an empty thought",
        ("thinking over candidates helps", "thinking over candidates hurts"),
    ),
)
"""Rows of one model that are compared: control, other control, what it is, and the verdicts."""


def comparison_sentences(evaluation: Evaluation) -> tuple[str, ...]:
    """Each model's own thought minus no thought and the like, and later models minus the first.

    A comparison is left out if one of its rows was not evaluated.
    """
    names = [system.name for system in evaluation.systems] or [None]
    owns = [evaluation.control("own", name) for name in names]
    sentences = []
    for name in names:
        for first, second, what, verdicts in _COMPARED:
            one, other = evaluation.control(first, name), evaluation.control(second, name)
            if one is not None and other is not None:
                named = what if len(names) == 1 else f"{name}, {what}"
                sentences.append(_sentence(evaluation, one, other, named, verdicts))
    for name, own in list(zip(names, owns, strict=True))[1:]:
        if own is not None and owns[0] is not None:
            what = f"{name} minus {names[0]}, own thought"
            verdicts = (f"{name} is better", f"{names[0]} is better")
            sentences.append(_sentence(evaluation, own, owns[0], what, verdicts))
    return tuple(sentences)


def _sentence(
    evaluation: Evaluation, first: Row, second: Row, what: str, verdicts: tuple[str, str]
) -> str:
    metric = HEADLINE[0]
    gain = evaluation.compare(first, second, metric)
    return (
        f"{evaluation.title}: {what}, {metric} "
        f"{signed(gain.difference)} [{signed(gain.low)}, {signed(gain.high)}], "
        f"{format_p(gain.p_value)}, "
        f"{counted(gain.queries, 'queries')} ({gain.better} better, {gain.worse} worse): "
        f"{_verdict(gain, verdicts)}."
    )


def evaluation_notes(evaluation: Evaluation) -> tuple[str, ...]:
    """Notes for the table, the report and results.json: flaws of the data, missing results."""
    notes = [
        *(counted(count, flaw) for flaw, count in evaluation.collection.notes.items()),
        *_notes_on_untrained(evaluation),
        *_notes_on_self_documents(evaluation),
        *_notes_on_rows(evaluation),
    ]
    return tuple(f"{evaluation.title}: {note}." for note in notes)


def _notes_on_untrained(evaluation: Evaluation) -> Iterator[str]:
    for system in evaluation.systems:
        if not system.model.is_trained:
            yield f"{system.model.name} was never trained to retrieve, so low scores are expected"


def _notes_on_rows(evaluation: Evaluation) -> Iterator[str]:
    total = counted(len(evaluation.query_ids), "queries")
    for row in evaluation.rows:
        if row.missing:
            yield (
                f"{row.label} has no result for {len(row.missing):,} of {total}, which count 0: "
                f"{_listed(row.missing)}"
            )
        if row.unknown:
            yield (
                f"{row.label} ranks {counted(len(row.unknown), 'queries')} that the split does not "
                f"have, such as {row.unknown[0]!r}"
            )


def _listed(names: Sequence[str], most: int = 5) -> str:
    """`a, b`, or `a, b, c, d, e and 7 more`."""
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _notes_on_self_documents(evaluation: Evaluation) -> Iterator[str]:
    """Warns of queries that are in the corpus: they rank first and count as wrong."""
    collection = evaluation.collection
    same_id = same_text = 0
    for query, documents in zip(collection.queries, evaluation.self_documents, strict=True):
        grades = collection.qrels.get(query.id, {})
        excluded = collection.excluded.get(query.id, frozenset())
        wrong = {name for name in documents - excluded if grades.get(name, 0) <= 0}
        same_id += query.id in wrong
        same_text += query.id not in wrong and bool(wrong)
    if same_id:
        yield (
            f"{counted(same_id, 'queries')} with the id of a document that is not relevant. If "
            "these documents are the queries themselves, they rank first and count as wrong: "
            "exclude_same_id=true removes them"
        )
    if same_text:
        yield (
            f"{counted(same_text, 'queries')} with the text of a document of another id that is "
            "not relevant: it ranks first and counts as wrong (excluded.jsonl can remove it)"
        )


def _verdict(gain: PairedDifference, verdicts: tuple[str, str]) -> str:
    if gain.queries < FEW_QUERIES:
        return f"fewer than {FEW_QUERIES} queries are too few for a verdict"
    if not gain.excludes_zero or gain.p_value >= 1 - LEVEL:
        return "no significant difference"
    return f"{verdicts[0] if gain.difference > 0 else verdicts[1]} here"


def signed(value: float) -> str:
    """Three digits with a sign, but `0.000` without one."""
    text = f"{value:+.3f}"
    return "0.000" if float(text) == 0 else text.replace("-", "−")


def format_p(p_value: float) -> str:
    """`p = 0.12`, or `p < 0.001` for small values."""
    return "p < 0.001" if p_value < 0.001 else f"p = {p_value:.2g}"


def to_markdown(evaluations: Sequence[Evaluation]) -> str:
    """The table, the comparisons and the legend as Markdown."""
    columns = [(evaluation, metric) for evaluation in evaluations for metric in HEADLINE]
    headings = [f"{evaluation.title} {metric}" for evaluation, metric in columns]
    lines = ["| " + " | ".join(["Retriever", *headings]) + " |", "|---|" + "---:|" * len(columns)]
    for name, label in row_names(evaluations).items():
        cells = []
        for evaluation, metric in columns:
            interval = _interval(evaluation, name, metric)
            text = "–" if interval is None else format_interval(interval)
            cells.append(f"**{text}**" if _is_best(evaluation, name, metric) else text)
        lines.append("| " + " | ".join([escape_markdown(label), *cells]) + " |")
    notes = [line for result in evaluations for line in comparison_sentences(result)]
    notes += [note for result in evaluations for note in evaluation_notes(result)]
    legend = _LEGEND.replace(f"{_BEST} best", "Bold: best")
    return "\n".join([*lines, "", *(f"{escape_markdown(note)}\n" for note in notes), legend, ""])


def format_interval(interval: Interval) -> str:
    """`0.343 [0.310, 0.375]`."""
    return f"{interval.mean:.3f} [{interval.low:.3f}, {interval.high:.3f}]"


def row_names(evaluations: Sequence[Evaluation]) -> dict[str, str]:
    """Name -> label of every row, in order of first appearance."""
    return {row.name: row.label for evaluation in evaluations for row in evaluation.rows}


def _table(evaluations: Sequence[Evaluation]) -> Table:
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    table.add_column("")  # long names wrap, so that numbers are whole in a narrow terminal
    for evaluation in evaluations:
        heading = f"{evaluation.title} ({counted(len(evaluation.query_ids), 'queries')})"
        for number, metric in enumerate(HEADLINE):
            table.add_column(f"{'' if number else heading}\n{metric}", no_wrap=True)
    for name, label in row_names(evaluations).items():
        cells = [
            _cell(evaluation, name, metric) for evaluation in evaluations for metric in HEADLINE
        ]
        rows = [row for evaluation in evaluations for row in evaluation.rows if row.name == name]
        oracle = any(row.oracle for row in rows)
        table.add_row(Text(label), *cells, style="dim italic" if oracle else "")
    return table


def _cell(evaluation: Evaluation, name: str, metric: str) -> Text:
    interval = _interval(evaluation, name, metric)
    if interval is None:
        return Text("–")
    best = _is_best(evaluation, name, metric)
    text = Text(f"{interval.mean:.3f}{_BEST if best else ' '}", style="bold" if best else "")
    text.append(f" [{interval.low:.3f}, {interval.high:.3f}]", style="not bold dim")
    return text


def _interval(evaluation: Evaluation, name: str, metric: str) -> Interval | None:
    return evaluation.intervals.get(name, {}).get(metric)


def _is_best(evaluation: Evaluation, name: str, metric: str) -> bool:
    return evaluation.best_row(metric).name == name


def escape_markdown(text: str) -> str:
    """The text with characters escaped that would break a Markdown table."""
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("<", "&lt;")
