"""The report: one self-contained HTML page that shows the numbers and the thoughts behind them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from t1_jax.config import to_yaml
from t1_jax.errors import ConfigError
from t1_jax.evaluate.bootstrap import Interval
from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.controls import CONTROLS
from t1_jax.evaluate.environment import hardware, package_versions
from t1_jax.evaluate.examples import Card, make_cards
from t1_jax.evaluate.notes import evaluation_notes
from t1_jax.evaluate.results import Evaluation, Row, ThinkingFacts
from t1_jax.evaluate.table import comparison_sentence
from t1_jax.seeds import check_seed

_TEMPLATES = Path(__file__).with_name("templates")

_CONTROL_CHARACTERS = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"} | {
    0x7F: 0x2421
}


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What the page shows of each collection.

    Attributes:
        helped: most queries that the thought helped.
        hurt: most queries that it hurt.
        random: queries drawn from the others.
        documents: length of the lists of documents.
        seed: of the draw.
    """

    helped: int = 4
    hurt: int = 4
    random: int = 4
    documents: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("helped", "hurt", "random"):
            if self.__dict__[name] < 0:
                raise ConfigError(f"{name} must not be negative, got {self.__dict__[name]}")
        check_seed(self.seed)
        if self.documents < 1:
            raise ConfigError(f"documents must be at least 1, got {self.documents}")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An interval drawn to scale, in percent of the axis.

    Attributes:
        low: left end.
        mean: the dot.
        high: right end.
    """

    low: float
    mean: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One measure of one row.

    Attributes:
        interval: the numbers.
        bar: the same, drawn.
        best: whether it is the best that has not seen the answers.
    """

    interval: Interval
    bar: Bar
    best: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a collection's table.

    Attributes:
        row: what it shows.
        cells: one a measure of `HEADLINE`.
        meaning: of its control, in a sentence; empty for a baseline.
        thinking: what its thoughts were like.
    """

    row: Row
    cells: tuple[Cell, ...]
    meaning: str
    thinking: ThinkingFacts | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything the page says about one collection.

    Attributes:
        evaluation: the numbers.
        anchor: of its links.
        lines: the table.
        references: for each measure where no thought lies on the axis, in percent; None without it.
        axis_ends: for each measure the value at the right end of the axis.
        sentence: what thinking was worth.
        notes: what to know beside the numbers.
        cards: single queries.
        code: whether queries are set like code, which is so where most have several lines.
    """

    evaluation: Evaluation
    anchor: str
    lines: tuple[Line, ...]
    references: tuple[float | None, ...]
    axis_ends: tuple[float, ...]
    sentence: str | None
    notes: tuple[str, ...]
    cards: tuple[Card, ...]
    code: bool


def render_report(evaluations: Sequence[Evaluation], options: ReportOptions | None = None) -> str:
    """The page: no script, no resource outside itself; every text from outside is escaped."""
    options = options or ReportOptions()
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    sections = [make_section(each, options, place) for place, each in enumerate(evaluations)]
    return environment.get_template("report.html.j2").render(
        sections=sections,
        options=options,
        metrics=HEADLINE,
        versions=package_versions(),
        hardware=hardware(),
        controls=CONTROLS,
        to_yaml=to_yaml,
    )


def make_section(evaluation: Evaluation, options: ReportOptions, place: int = 0) -> Section:
    """What the page says about a collection; `place` numbers its anchors."""
    ends = tuple(_axis_end(evaluation, measure) for measure in HEADLINE)
    without = evaluation.control("no-think")
    queries = evaluation.collection.queries
    return Section(
        evaluation=evaluation,
        anchor=f"collection-{place + 1}",
        lines=tuple(_line(evaluation, row, ends) for row in evaluation.rows),
        references=tuple(
            100 * evaluation.intervals[without.name][measure].mean / end if without else None
            for measure, end in zip(HEADLINE, ends, strict=True)
        ),
        axis_ends=ends,
        sentence=comparison_sentence(evaluation),
        notes=evaluation_notes(evaluation),
        cards=make_cards(
            evaluation,
            helped=options.helped,
            hurt=options.hurt,
            random=options.random,
            documents=options.documents,
            seed=options.seed,
        ),
        code=2 * sum("\n" in query.text.strip() for query in queries) > len(queries),
    )


def visible(text: str) -> str:
    """The text with control characters as their pictures, which HTML would drop or change."""
    return text.translate(_CONTROL_CHARACTERS)


def _line(evaluation: Evaluation, row: Row, ends: tuple[float, ...]) -> Line:
    intervals = evaluation.intervals[row.name]
    cells = tuple(
        Cell(
            interval=intervals[measure],
            bar=_bar(intervals[measure], end),
            best=evaluation.best_row(measure) is row,
        )
        for measure, end in zip(HEADLINE, ends, strict=True)
    )
    meaning = CONTROLS[row.control].meaning if row.control else ""
    return Line(row=row, cells=cells, meaning=meaning, thinking=row.thinking)


def _axis_end(evaluation: Evaluation, measure: str) -> float:
    """The next tenth above every interval, so that the rows of a column share one axis."""
    highest = max(found[measure].high for found in evaluation.intervals.values())
    return min(1.0, max(0.1, math.ceil(highest * 10 - 1e-9) / 10))


def _bar(interval: Interval, end: float) -> Bar:
    return Bar(
        low=100 * interval.low / end, mean=100 * interval.mean / end, high=100 * interval.high / end
    )
