"""The page over several runs: budgets, seeds, and what it reads them from."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from t1_jax.errors import DataError
from t1_jax.evaluate import Evaluation, render_runs, write_results
from t1_jax.evaluate.runs_page import runs_sections
from t1_jax.generate import SamplingParams


@pytest.fixture
def runs(evaluation: Evaluation, tmp_path: Path) -> list[Path]:
    """Two budgets, the larger one with two seeds."""
    folders = []
    for name, budget, seed in (("a", 8, 0), ("b", 32, 0), ("c", 32, 1)):
        (system,) = evaluation.systems
        config = replace(
            system.config,
            max_thought_tokens=budget,
            sampling=SamplingParams(temperature=0.7, seed=seed),
        )
        changed = replace(evaluation, systems=(replace(system, config=config),))
        if name == "c":
            own = evaluation.row("t1-own")
            values = {metric: 0.9 * column for metric, column in own.values.items()}
            rows = [replace(own, values=values) if row is own else row for row in evaluation.rows]
            changed = replace(changed, rows=tuple(rows))
        write_results(tmp_path / name, [changed])
        folders.append(tmp_path / name)
    return folders


def test_scores_by_budget_and_their_spread_over_seeds(evaluation: Evaluation, runs) -> None:
    (section,) = runs_sections(runs)
    assert section.title == evaluation.title
    assert [(row.run, row.budget, row.seed) for row in section.rows] == [
        ("a", 8, 0), ("b", 32, 0), ("c", 32, 1)
    ]  # fmt: skip
    mean = evaluation.row("t1-own").values["nDCG@10"].mean()
    (spread,) = section.seeds
    assert (spread.budget, spread.seeds) == (32, (0, 1))
    assert spread.values["own"] == pytest.approx((mean, 0.9 * mean))
    assert spread.mean("own") == pytest.approx(0.95 * mean)
    assert spread.deviation("no-think") == 0
    assert section.budgets is not None
    assert [label for label, _ in section.budgets.x_ticks] == ["8", "32"]
    own = next(series for series in section.budgets.series if series.control == "own")
    assert [mark.x for mark in own.marks] == [25.0, 75.0]
    assert own.marks[0].y < own.marks[1].y  # the mean over seeds is lower
    assert own.marks[0].label == f"own thought, 8 tokens: {mean:.3f}"
    for mark in own.marks:
        assert 0 <= mark.high <= mark.y <= mark.low <= 100


def test_the_page_holds_plots_and_table_and_loads_nothing(runs) -> None:
    html = render_runs(runs)
    assert "by the maximum number of tokens of a thought" in html
    assert "differ in their seed only" in html
    assert html.count("<circle") == 2 * 2 + 2 * 2  # own and no-think: budgets, then seeds
    assert "<script" not in html
    assert "http" not in html.replace("http-equiv", "")


def test_a_single_run_has_a_table_but_no_plot(runs) -> None:
    (section,) = runs_sections(runs[:1])
    assert (section.budgets, section.seed_plot) == (None, None)
    assert "<figure" not in render_runs(runs[:1])


def test_folders_that_are_no_evaluation_are_named(runs, tmp_path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty is not the folder of an evaluation"):
        render_runs([*runs, tmp_path / "empty"])
    results = json.loads((runs[0] / "results.json").read_text())
    del results["collections"][0]["systems"][0]["config"]
    (runs[0] / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match=r"a is damaged: KeyError\('config'\)"):
        render_runs(runs)
    results["collections"][0]["systems"] = []
    (runs[0] / "results.json").write_text(json.dumps(results))
    with pytest.raises(DataError, match="none of these evaluations has a model"):
        render_runs(runs[:1])
