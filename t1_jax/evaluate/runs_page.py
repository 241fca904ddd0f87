"""The page over several evaluations: scores by thinking budget, and their spread over seeds."""

import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t1_jax.errors import DataError
from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.environment import package_versions
from t1_jax.evaluate.read import read_results
from t1_jax.evaluate.report import page_environment

_CONTROLS = {
    "own": "own thought",
    "verified": "own thought, verified",
    "candidates": "own thought over candidates",
    "no-think": "no thought",
}
"""The rows that are drawn, by control."""


@dataclass(frozen=True, kw_only=True)
class RunRow:
    """One model on one collection, as one evaluation found it.

    Attributes:
        run: name of the folder.
        model: name of the model.
        settings: what identifies the setting but for budget and seed.
        budget: maximum tokens of a thought.
        seed: of the sampling.
        temperature: of the sampling.
        n: thoughts per query.
        scores: control -> mean, low and high of the metric.
        mean_tokens: tokens per thought.
        truncated: fraction of thoughts that were truncated.
        seconds: for the queries with their own thought.
    """

    run: str
    model: str
    settings: tuple[str, ...]
    budget: int
    seed: int
    temperature: float
    n: int
    scores: Mapping[str, tuple[float, float, float]]
    mean_tokens: float
    truncated: float
    seconds: float


@dataclass(frozen=True, kw_only=True)
class Mark:
    """A dot with its interval; all places in percent of the plot."""

    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True, kw_only=True)
class Series:
    """The dots of one control of one setting, from left to right, joined by a line."""

    control: str
    label: str
    marks: tuple[Mark, ...]


@dataclass(frozen=True, kw_only=True)
class Plot:
    """Series over labeled places.

    Attributes:
        series: what is drawn.
        x_ticks: label and place.
        y_ticks: label and place.
    """

    series: tuple[Series, ...]
    x_ticks: tuple[tuple[str, float], ...]
    y_ticks: tuple[tuple[str, float], ...]


@dataclass(frozen=True, kw_only=True)
class SeedSpread:
    """Runs that differ in their seed only: mean and standard deviation of each control."""

    model: str
    budget: int
    seeds: tuple[int, ...]
    values: Mapping[str, tuple[float, ...]]

    def mean(self, control: str) -> float:
        """Mean over seeds."""
        return statistics.fmean(self.values[control])

    def deviation(self, control: str) -> float:
        """Sample standard deviation over seeds."""
        return statistics.stdev(self.values[control])


@dataclass(frozen=True, kw_only=True)
class RunsSection:
    """Everything the page says about one collection.

    Attributes:
        title: of the collection.
        rows: one for each run and model.
        budgets: scores by budget; None with a single budget.
        seeds: runs that differ in their seed only.
        seed_plot: their scores; None without such runs.
    """

    title: str
    rows: tuple[RunRow, ...]
    budgets: Plot | None
    seeds: tuple[SeedSpread, ...]
    seed_plot: Plot | None


def render_runs(folders: Sequence[Path]) -> str:
    """The page as HTML that loads nothing, from folders that `write_results` wrote.

    Raises:
        DataError: a folder is not one of an evaluation, is damaged, or has no model.
    """
    sections = runs_sections(folders)
    return (
        page_environment()
        .get_template("runs.html.j2")
        .render(
            sections=sections,
            metric=HEADLINE[0],
            controls=_CONTROLS,
            count=len(folders),
            versions=package_versions(),
        )
    )


def runs_sections(folders: Sequence[Path]) -> list[RunsSection]:
    """One section for each collection, in order of first appearance; raises as `render_runs`."""
    rows: dict[str, list[RunRow]] = {}
    for folder in folders:
        results = read_results(Path(folder))
        try:
            for collection in results["collections"]:
                split = collection["split"]
                title = collection["collection"] + (f"/{split}" if split else "")
                rows.setdefault(title, []).extend(_rows(Path(folder).name, collection))
        except (KeyError, TypeError) as error:
            raise DataError(
                f"{folder} is damaged: {error!r} is missing from its results",
                hint="evaluate again with --output",
            ) from error
    if not any(rows.values()):
        raise DataError(
            "none of these evaluations has a model", hint="give folders of t1 evaluate --output"
        )
    return [_section(title, found) for title, found in rows.items() if found]


def _rows(run: str, collection: Mapping[str, Any]) -> Iterable[RunRow]:
    for system in collection["systems"]:
        config, sampling = system["config"], system["config"]["sampling"]
        own = [row for row in collection["rows"] if row["system"] == system["name"]]
        scores = {}
        thinking: Mapping[str, Any] = {}
        seconds = math.nan
        for row in own:
            if row["control"] in _CONTROLS:
                interval = row["metrics"][HEADLINE[0]]
                scores[row["control"]] = (interval["mean"], interval["low"], interval["high"])
            if row["control"] == "own":
                thinking, seconds = row["thinking"] or {}, row["seconds"]
        model = system["model"]
        others = {key: value for key, value in sampling.items() if key != "seed"}
        yield RunRow(
            run=run,
            model=model["name"],
            settings=(model["name"], model["encoder"], model["prompt"], str(config["n"]),
                      str(sorted(others.items())), collection["qrels_hash"]),
            budget=config["max_thought_tokens"],
            seed=sampling["seed"],
            temperature=float(sampling["temperature"]),
            n=config["n"],
            scores=scores,
            mean_tokens=thinking.get("mean_tokens", math.nan),
            truncated=thinking.get("truncated_frac", math.nan),
            seconds=seconds,
        )  # fmt: skip


def _section(title: str, rows: Sequence[RunRow]) -> RunsSection:
    by_setting: dict[tuple[tuple[str, ...], int], list[RunRow]] = {}
    for row in rows:
        by_setting.setdefault((row.settings, row.budget), []).append(row)
    spreads = [_spread(group) for group in by_setting.values() if len({r.seed for r in group}) > 1]
    budgets = sorted({row.budget for row in rows})
    return RunsSection(
        title=title,
        rows=tuple(sorted(rows, key=lambda row: (row.model, row.budget, row.seed))),
        budgets=_budget_plot(by_setting, budgets) if len(budgets) > 1 else None,
        seeds=tuple(spreads),
        seed_plot=_seed_plot(spreads) if spreads else None,
    )


def _spread(group: Sequence[RunRow]) -> SeedSpread:
    by_seed = {row.seed: row for row in sorted(group, key=lambda row: row.seed)}
    controls = [name for name in _CONTROLS if all(name in row.scores for row in by_seed.values())]
    return SeedSpread(
        model=group[0].model,
        budget=group[0].budget,
        seeds=tuple(by_seed),
        values={name: tuple(row.scores[name][0] for row in by_seed.values()) for name in controls},
    )


def _budget_plot(
    by_setting: Mapping[tuple[tuple[str, ...], int], Sequence[RunRow]], budgets: Sequence[int]
) -> Plot:
    """A line for each setting and control; runs with several seeds are averaged."""
    place = {budget: 100 * (number + 0.5) / len(budgets) for number, budget in enumerate(budgets)}
    settings = list(dict.fromkeys(key for key, _ in by_setting))
    lines: list[tuple[str, str, list[tuple[float, float, float, float, str]]]] = []
    for key in settings:
        for control, label in _CONTROLS.items():
            points = []
            for budget in budgets:
                group = by_setting.get((key, budget), ())
                scores = [row.scores[control] for row in group if control in row.scores]
                if scores:
                    mean, low, high = (
                        statistics.fmean(score[part] for score in scores) for part in range(3)
                    )
                    points.append((place[budget], mean, low, high, f"{budget} tokens"))
            if points:
                name = f"{key[0]}, {label}" if len(settings) > 1 else label
                lines.append((control, name, points))
    return _plot(lines, [(str(budget), place[budget]) for budget in budgets])


def _seed_plot(spreads: Sequence[SeedSpread]) -> Plot:
    """A column for each group of runs, with a dot for each seed."""
    lines: list[tuple[str, str, list[tuple[float, float, float, float, str]]]] = []
    ticks = []
    for number, spread in enumerate(spreads):
        x = 100 * (number + 0.5) / len(spreads)
        name = f"{spread.model}, {spread.budget} tokens"
        ticks.append((name, x))
        for control, values in spread.values.items():
            label = f"{name}, {_CONTROLS[control]}"
            for seed, value in zip(spread.seeds, values, strict=True):
                lines.append((control, label, [(x, value, value, value, f"seed {seed}")]))
    return _plot(lines, ticks)


def _plot(
    lines: Sequence[tuple[str, str, Sequence[tuple[float, float, float, float, str]]]],
    x_ticks: Sequence[tuple[str, float]],
) -> Plot:
    values = [value for _, _, points in lines for point in points for value in point[2:4]]
    low = math.floor(20 * min(values)) / 20
    high = max(math.ceil(20 * max(values)) / 20, low + 0.05)

    def y(value: float) -> float:
        return 100 * (high - value) / (high - low)

    count = round((high - low) / 0.05)
    step = 0.05 * max(math.ceil(count / 5), 1)
    ticks = [low + step * number for number in range(math.floor((high - low) / step + 1e-9) + 1)]
    return Plot(
        series=tuple(
            Series(
                control=control,
                label=label,
                marks=tuple(
                    Mark(
                        x=x,
                        y=y(mean),
                        low=y(bottom),
                        high=y(top),
                        label=f"{label}, {what}: {mean:.3f}",
                    )
                    for x, mean, bottom, top, what in points
                ),
            )
            for control, label, points in lines
        ),
        x_ticks=tuple(x_ticks),
        y_ticks=tuple((f"{tick:.2f}", y(tick)) for tick in ticks),
    )
