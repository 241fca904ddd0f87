"""Thoughts in numbers for the report: truncation, repetition, cost, and length against gain."""

import math
from dataclasses import dataclass

import numpy as np

from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.query_data import is_empty, is_repetitive, is_truncated
from t1_jax.evaluate.results import Evaluation, Row

_BINS = 5
_TICKS = 4


@dataclass(frozen=True, kw_only=True)
class Meter:
    """A share of thoughts, from 0 to 1; `count` of `total`."""

    label: str
    count: int
    total: int

    @property
    def share(self) -> float:
        """The part of all thoughts."""
        return self.count / self.total


@dataclass(frozen=True, kw_only=True)
class ThoughtMeters:
    """What the thoughts of one model are like, and what they cost.

    Attributes:
        label: of the row.
        meters: truncated, repetitive and empty thoughts.
        tokens: mean tokens per query.
        seconds: seconds per query, with compilation.
        gain: nDCG@10 over no thought; None if that was not evaluated.
    """

    label: str
    meters: tuple[Meter, ...]
    tokens: float
    seconds: float
    gain: float | None

    @property
    def gain_per_100_tokens(self) -> float | None:
        """Gain in nDCG@10 for 100 tokens of thinking."""
        if self.gain is None or not self.tokens:
            return None
        return 100 * self.gain / self.tokens


@dataclass(frozen=True, kw_only=True)
class Point:
    """A query: tokens of its thoughts and gain, and its place in percent of the plot."""

    query_id: str
    tokens: int
    gain: float
    x: float
    y: float
    truncated: bool


@dataclass(frozen=True, kw_only=True)
class Bin:
    """Queries of similar length: their mean gain, and its place in percent of the plot."""

    queries: int
    tokens: float
    gain: float
    x: float
    y: float


@dataclass(frozen=True, kw_only=True)
class LengthPlot:
    """Length of the thoughts against gain, query by query.

    Attributes:
        points: the queries.
        bins: mean gain in groups of equal size, by length.
        x_ticks: label and place of each tick.
        y_ticks: label and place of each tick.
        zero: place of a gain of 0.
        correlation: Spearman's rank correlation; None if all lengths or all gains are equal.
    """

    points: tuple[Point, ...]
    bins: tuple[Bin, ...]
    x_ticks: tuple[tuple[str, float], ...]
    y_ticks: tuple[tuple[str, float], ...]
    zero: float
    correlation: float | None


def thought_meters(evaluation: Evaluation) -> tuple[ThoughtMeters, ...]:
    """The meters of each model's own thoughts."""
    found = []
    for system in evaluation.systems:
        own = evaluation.control("own", system.name)
        if own is None:
            continue
        thoughts = [thought for group in own.thoughts.values() for thought in group]
        without = evaluation.control("no-think", system.name)
        total, queries = len(thoughts), len(evaluation.query_ids)
        gain = None if without is None else float(_gains(own, without).mean())
        found.append(
            ThoughtMeters(
                label=own.label,
                meters=tuple(
                    Meter(label=label, count=sum(map(test, thoughts)), total=total)
                    for label, test in (
                        ("truncated", is_truncated),
                        ("repetitive", is_repetitive),
                        ("empty", is_empty),
                    )
                ),
                tokens=sum(thought.tokens or 0 for thought in thoughts) / queries,
                seconds=own.seconds / queries,
                gain=gain,
            )
        )
    return tuple(found)


def length_plot(evaluation: Evaluation) -> LengthPlot | None:
    """Length against gain of the first model; None without both its rows."""
    own, without = evaluation.control("own"), evaluation.control("no-think")
    if own is None or without is None:
        return None
    gains = _gains(own, without)
    tokens = np.array(
        [sum(t.tokens or 0 for t in own.thoughts[name]) for name in evaluation.query_ids]
    )
    step = _tick_step(max(int(tokens.max()), 1))
    right = step * max(math.ceil(int(tokens.max()) / step), 1)
    top = max(0.1, math.ceil(10 * float(np.abs(gains).max()) - 1e-9) / 10)

    def x(value: float) -> float:
        return 100 * value / right

    def y(value: float) -> float:
        return 50 - 50 * value / top

    order = np.argsort(tokens, kind="stable")
    groups = [group for group in np.array_split(order, min(_BINS, len(order))) if len(group)]
    means = [(len(g), float(tokens[g].mean()), float(gains[g].mean())) for g in groups]
    return LengthPlot(
        points=tuple(
            Point(
                query_id=name,
                tokens=int(tokens[number]),
                gain=float(gains[number]),
                x=x(float(tokens[number])),
                y=y(float(gains[number])),
                truncated=any(map(is_truncated, own.thoughts[name])),
            )
            for number, name in enumerate(evaluation.query_ids)
        ),
        bins=tuple(
            Bin(queries=count, tokens=mean, gain=gain, x=x(mean), y=y(gain))
            for count, mean, gain in means
        ),
        x_ticks=tuple((str(step * n), x(float(step * n))) for n in range(round(right / step) + 1)),
        y_ticks=tuple((f"{value:+.1f}".replace("-", "−"), y(value)) for value in (top, -top)),
        zero=y(0.0),
        correlation=_spearman(tokens, gains),
    )


def _gains(own: Row, without: Row) -> np.ndarray:
    return own.values[HEADLINE[0]] - without.values[HEADLINE[0]]


def _tick_step(most: int) -> int:
    """A round step that gives about four ticks."""
    rough = most / _TICKS
    unit = 10 ** math.floor(math.log10(max(rough, 1)))
    return max(int(next(unit * m for m in (1, 2, 5, 10) if unit * m >= rough)), 1)


def _spearman(a: np.ndarray, b: np.ndarray) -> float | None:
    from scipy.stats import spearmanr

    if np.ptp(a) == 0 or np.ptp(b) == 0:
        return None
    return float(spearmanr(a, b).statistic)
