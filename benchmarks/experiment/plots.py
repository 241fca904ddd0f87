"""The plots of docs/experiment.md; equal results give equal bytes."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.experiment.collected import Collected
from benchmarks.experiment.plan import Plan
from benchmarks.experiment.results import METRICS
from benchmarks.experiment.tables import budget_points
from t1_jax.errors import UnsupportedError

_SETTINGS = {"svg.hashsalt": "t1", "svg.fonttype": "none", "font.size": 9, "axes.grid": True,
             "grid.alpha": 0.3}  # fmt: skip


def draw(plan: Plan, collected: Collected, folder: Path) -> list[Path]:
    """Draws the plots that have results; returns the files.

    Raises:
        UnsupportedError: matplotlib is not installed.
    """
    pyplot = _pyplot()
    written = []
    points = {name: budget_points(plan, collected, name) for name in plan.collections}
    with pyplot.rc_context(_SETTINGS):
        if any(points.values()):
            figure = _budget(pyplot, plan, collected, points)
            written.append(_save(pyplot, figure, folder / "budget.svg"))
        if collected.curves:
            figure = _validation(pyplot, collected.curves)
            written.append(_save(pyplot, figure, folder / "validation.svg"))
    return written


def _budget(pyplot: Any, plan: Plan, collected: Collected, points: Mapping[str, Any]) -> Any:
    figure, axes = pyplot.subplots(figsize=(5.5, 3.4), layout="constrained")
    for number, (name, found) in enumerate(points.items()):
        if not found:
            continue
        color, budgets = f"C{number}", list(found)
        axes.plot(budgets, [x.mean for x in found.values()], "o-", color=color, label=name)
        axes.fill_between(
            budgets,
            [x.low for x in found.values()],
            [x.high for x in found.values()],
            color=color,
            alpha=0.15,
            linewidth=0,
        )
        without = collected.interval(plan.reference, "no-think", name)
        if without is not None:
            axes.axhline(without.mean, color=color, linestyle="--", label=f"{name}, no thought")
    axes.set_xlabel("max thought tokens (0: empty thought)")
    axes.set_ylabel(METRICS[0])
    axes.legend()
    return figure


def _validation(pyplot: Any, curves: Mapping[str, Any]) -> Any:
    figure, panels = pyplot.subplots(
        1, 2, figsize=(8, 3.4), layout="constrained", sharey=True, squeeze=False
    )
    for axes, key, label in zip(
        panels[0], ("step", "tokens"), ("steps", "tokens read"), strict=True
    ):
        for number, (name, curve) in enumerate(curves.items()):
            points = [point for point in curve["points"] if "validation/ndcg@10" in point]
            axes.plot(
                [point[key] for point in points],
                [point["validation/ndcg@10"] for point in points],
                "o-",
                markersize=3,
                color=f"C{number % 10}",
                label=name,
            )
        axes.set_xlabel(label)
    panels[0][0].set_ylabel("validation nDCG@10, mean of the collections")
    panels[0][1].legend()
    return figure


def _save(pyplot: Any, figure: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, format="svg", metadata={"Date": None})
    pyplot.close(figure)
    return path


def _pyplot() -> Any:
    try:
        import matplotlib
    except ImportError as error:
        raise UnsupportedError(
            "the pictures need matplotlib, which is not installed",
            hint="pip install matplotlib, or add --tables-only",
        ) from error
    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot
