"""The page of a run: rewards over time, the same queries over time, and thoughts by step."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from t1_jax.progress import visible

_TEMPLATES = Path(__file__).with_name("templates")
_MAX_STEPS = 60
"""Steps whose thoughts are shown, from the first to the last; the file has all."""

_WIDTH, _HEIGHT = 640.0, 120.0


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A metric over the steps of a run, as an SVG polyline.

    Attributes:
        name: of the metric.
        points: "x,y x,y ...", in a view box of 640 x 120.
        first: its first value.
        last: its last value.
        low: its smallest value, at the bottom.
        high: its largest value, at the top.
        steps: first and last step.
    """

    name: str
    points: str
    first: float
    last: float
    low: float
    high: float
    steps: tuple[int, int]


def thoughts_page(
    name: str, metrics: Sequence[Mapping[str, Any]], thoughts: Sequence[Mapping[str, Any]]
) -> str:
    """The page as HTML without references to other files.

    Args:
        name: of the run.
        metrics: lines of `metrics.jsonl`.
        thoughts: lines of `thoughts.jsonl`.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if isinstance(value, str) else value,
    )
    rollouts = _by_step([row for row in thoughts if row["of"] == "rollout"])
    validations = [row for row in thoughts if row["of"] == "validation"]
    return environment.get_template("thoughts.html.j2").render(
        name=name,
        curves=reward_curves(metrics),
        queries=_by_query(validations),
        steps=_spread(rollouts),
        hidden=max(len(rollouts) - _MAX_STEPS, 0),
    )


def reward_curves(metrics: Sequence[Mapping[str, Any]]) -> list[Curve]:
    """Reward, its terms, and validation scores, where they were logged at least twice."""
    names = dict.fromkeys(
        name
        for line in metrics
        for name in line
        if name == "reward"
        or name.startswith("reward/")
        or name.endswith("ndcg@10")
        or name == "rollout/length"
    )
    curves = []
    for name in sorted(names, key=lambda name: (not name.startswith("validation"), name)):
        values = [(line["step"], line[name]) for line in metrics if line.get(name) is not None]
        if len(values) > 1:
            curves.append(_curve(name, values))
    return curves


def _curve(name: str, values: Sequence[tuple[int, float]]) -> Curve:
    steps = [step for step, _ in values]
    numbers = [value for _, value in values]
    low, high = min(numbers), max(numbers)
    width, height = max(steps[-1] - steps[0], 1), (high - low) or 1.0
    points = " ".join(
        f"{(step - steps[0]) / width * _WIDTH:.1f},{(high - value) / height * _HEIGHT:.1f}"
        for step, value in values
    )
    return Curve(
        name=name,
        points=points,
        first=numbers[0],
        last=numbers[-1],
        low=low,
        high=high,
        steps=(steps[0], steps[-1]),
    )


def _by_query(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Validation queries with their thought at each validation."""
    queries: dict[tuple[str, str], dict[str, Any]] = {}
    for row in rows:
        known = queries.setdefault(
            (row["set"], row["query_id"]), {"query": row["query"], "gold": row["gold"], "rows": []}
        )
        known["rows"].append(row)
    return list(queries.values())


def _by_step(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Steps with their queries, and those with their thoughts, best reward first."""
    steps: dict[int, dict[str, Any]] = {}
    for row in rows:
        step = steps.setdefault(
            row["step"], {"step": row["step"], "stage": row["stage"], "queries": {}}
        )
        step["queries"].setdefault((row["set"], row["query_id"]), []).append(row)
    for step in steps.values():
        step["queries"] = [
            sorted(group, key=lambda row: -(row["reward"] or 0.0))
            for group in step["queries"].values()
        ]
        rewards = [
            row["reward"] for group in step["queries"] for row in group if row["reward"] is not None
        ]
        step["mean"] = sum(rewards) / len(rewards) if rewards else None
    return list(steps.values())


def _spread(steps: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """At most `_MAX_STEPS` of the steps, evenly, the first and the last among them."""
    if len(steps) <= _MAX_STEPS:
        return steps
    return [steps[round(i * (len(steps) - 1) / (_MAX_STEPS - 1))] for i in range(_MAX_STEPS)]
