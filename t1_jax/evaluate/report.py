"""The report: one self-contained HTML page with the scores and the thoughts behind them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from t1_jax.config import to_yaml
from t1_jax.errors import ConfigError
from t1_jax.evaluate.bootstrap import Interval
from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.controls import ALL_CONTROLS, meaning_of
from t1_jax.evaluate.environment import hardware, package_versions
from t1_jax.evaluate.examples import QueryExample, make_examples
from t1_jax.evaluate.meters import LengthPlot, ThoughtMeters, length_plot, thought_meters
from t1_jax.evaluate.query_data import query_data
from t1_jax.evaluate.results import Evaluation, Row, ThinkingFacts
from t1_jax.evaluate.table import comparison_sentences, evaluation_notes
from t1_jax.progress import visible
from t1_jax.seeds import check_seed

_TEMPLATES = Path(__file__).with_name("templates")


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    """What the page shows for each collection.

    Attributes:
        helped: maximum number of queries that the thought helped.
        hurt: maximum number of queries that the thought hurt.
        random: number of other queries, chosen at random.
        documents: length of the rankings.
        queries: maximum number of queries in the table of all queries, evenly over the collection.
        seed: seed of the random choice.
    """

    helped: int = 4
    hurt: int = 4
    random: int = 4
    documents: int = 5
    queries: int = 2000
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("helped", "hurt", "random", "queries"):
            if self.__dict__[name] < 0:
                raise ConfigError(f"{name} must not be negative, got {self.__dict__[name]}")
        check_seed(self.seed)
        if self.documents < 1:
            raise ConfigError(f"documents must be at least 1, got {self.documents}")


@dataclass(frozen=True, kw_only=True)
class Bar:
    """An interval in percent of the axis: a line with a dot at the mean."""

    low: float
    mean: float
    high: float


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One metric of one row; `best` marks the best row that has not seen the answers."""

    interval: Interval
    bar: Bar
    best: bool


@dataclass(frozen=True, kw_only=True)
class Line:
    """One row of a collection's table: a cell for each metric of `HEADLINE`.

    `meaning` describes its control; it is empty for a baseline.
    """

    row: Row
    cells: tuple[Cell, ...]
    meaning: str
    thinking: ThinkingFacts | None


@dataclass(frozen=True, kw_only=True)
class Section:
    """Everything the page says about one collection.

    Attributes:
        evaluation: the results.
        anchor: HTML id of the section.
        lines: rows of the table.
        references: for each metric the position of "no-think" on the axis in percent, or None.
        axis_ends: for each metric the value at the right end of the axis.
        sentences: comparisons of own thought and no thought, and of models.
        notes: notes beside the scores.
        meters: truncation, repetition and cost of each model's thoughts.
        length: length of the thoughts against gain; None if one of them was not evaluated.
        examples: single queries.
        queries: all queries, see `query_data`.
        code: whether queries are shown as code, as most have several lines.
    """

    evaluation: Evaluation
    anchor: str
    lines: tuple[Line, ...]
    references: tuple[float | None, ...]
    axis_ends: tuple[float, ...]
    sentences: tuple[str, ...]
    notes: tuple[str, ...]
    meters: tuple[ThoughtMeters, ...]
    length: LengthPlot | None
    examples: tuple[QueryExample, ...]
    queries: Mapping[str, Any]
    code: bool


def render_report(evaluations: Sequence[Evaluation], options: ReportOptions | None = None) -> str:
    """The page as HTML that loads nothing; all texts are escaped.

    Without scripts it shows everything but the table of all queries.
    """
    options = options or ReportOptions()
    sections = [
        make_section(evaluation, options, number) for number, evaluation in enumerate(evaluations)
    ]
    return (
        page_environment()
        .get_template("report.html.j2")
        .render(
            sections=sections,
            options=options,
            metrics=HEADLINE,
            versions=package_versions(),
            hardware=hardware(),
            controls=[ALL_CONTROLS[name] for name in _controls_of(evaluations)],
            to_yaml=to_yaml,
        )
    )


def _controls_of(evaluations: Sequence[Evaluation]) -> list[str]:
    """Names of the controls that have rows, in the order of `ALL_CONTROLS`."""
    present = {row.control for evaluation in evaluations for row in evaluation.rows}
    return [name for name in ALL_CONTROLS if name in present]


def page_environment() -> Environment:
    """The environment of all pages: texts are escaped, and `visible` shows control characters."""
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["visible"] = visible
    return environment


def make_section(evaluation: Evaluation, options: ReportOptions, number: int = 0) -> Section:
    """The section of one collection; `number` makes its anchor unique."""
    ends = tuple(_axis_end(evaluation, metric) for metric in HEADLINE)
    without = evaluation.control("no-think")
    queries = evaluation.collection.queries
    return Section(
        evaluation=evaluation,
        anchor=f"collection-{number + 1}",
        lines=tuple(_line(evaluation, row, ends) for row in evaluation.rows),
        references=tuple(
            100 * evaluation.intervals[without.name][metric].mean / end if without else None
            for metric, end in zip(HEADLINE, ends, strict=True)
        ),
        axis_ends=ends,
        sentences=comparison_sentences(evaluation),
        notes=evaluation_notes(evaluation),
        meters=thought_meters(evaluation),
        length=length_plot(evaluation),
        examples=make_examples(
            evaluation,
            helped=options.helped,
            hurt=options.hurt,
            random=options.random,
            documents=options.documents,
            seed=options.seed,
        ),
        queries=query_data(evaluation, documents=2 * options.documents, queries=options.queries),
        code=2 * sum("\n" in query.text.strip() for query in queries) > len(queries),
    )


def _line(evaluation: Evaluation, row: Row, ends: tuple[float, ...]) -> Line:
    intervals = evaluation.intervals[row.name]
    cells = tuple(
        Cell(
            interval=intervals[metric],
            bar=_bar(intervals[metric], end),
            best=evaluation.best_row(metric) is row,
        )
        for metric, end in zip(HEADLINE, ends, strict=True)
    )
    return Line(row=row, cells=cells, meaning=meaning_of(row.control), thinking=row.thinking)


def _axis_end(evaluation: Evaluation, metric: str) -> float:
    """The next tenth above all intervals, so that the rows of a column share one axis."""
    highest = max(row[metric].high for row in evaluation.intervals.values())
    return min(1.0, max(0.1, math.ceil(highest * 10 - 1e-9) / 10))


def _bar(interval: Interval, end: float) -> Bar:
    return Bar(
        low=100 * interval.low / end, mean=100 * interval.mean / end, high=100 * interval.high / end
    )
