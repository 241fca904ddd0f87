"""Truncation, repetition, cost, and length against gain."""

from dataclasses import replace

import numpy as np
import pytest

from t1_jax.evaluate import Evaluation
from t1_jax.evaluate.meters import length_plot, thought_meters


def with_thoughts(evaluation: Evaluation, *texts: str) -> Evaluation:
    own = evaluation.row("t1-own")
    thoughts = {
        name: (replace(own.thoughts[name][0], text=text, tokens=len(text.split())),)
        for name, text in zip(evaluation.query_ids, texts, strict=True)
    }
    rows = [
        replace(row, thoughts=thoughts, seconds=6.0) if row is own else row
        for row in evaluation.rows
    ]
    return replace(evaluation, rows=tuple(rows))


def test_shares_and_costs_of_the_own_thoughts(evaluation: Evaluation) -> None:
    changed = with_thoughts(evaluation, "a b c d e f", " ", "no no no no no no")
    (meters,) = thought_meters(changed)
    assert [(meter.label, meter.count, meter.total) for meter in meters.meters] == [
        ("truncated", 1, 3),  # q2 ended at its length
        ("repetitive", 1, 3),
        ("empty", 1, 3),
    ]
    assert meters.tokens == 4.0
    assert meters.seconds == 2.0
    own, without = changed.row("t1-own"), changed.row("t1-no-think")
    gain = (own.values["nDCG@10"] - without.values["nDCG@10"]).mean()
    assert meters.gain_per_100_tokens == pytest.approx(100 * gain / 4)


def test_without_no_think_there_is_no_gain_and_no_plot(evaluation: Evaluation) -> None:
    alone = replace(evaluation, rows=(evaluation.row("t1-own"),))
    (meters,) = thought_meters(alone)
    assert (meters.gain, meters.gain_per_100_tokens) == (None, None)
    assert length_plot(alone) is None
    assert thought_meters(replace(evaluation, systems=())) == ()


def test_points_lie_by_length_and_gain(evaluation: Evaluation) -> None:
    changed = with_thoughts(evaluation, "a " * 30, "a " * 10, "")
    plot = length_plot(changed)
    assert plot is not None
    gains = changed.row("t1-own").values["nDCG@10"] - changed.row("t1-no-think").values["nDCG@10"]
    assert [point.tokens for point in plot.points] == [30, 10, 0]
    np.testing.assert_allclose([point.gain for point in plot.points], gains)
    last = float(plot.x_ticks[-1][0])
    for point in plot.points:
        assert point.x == pytest.approx(100 * point.tokens / last)
        assert 0 <= point.y <= 100
        assert (point.y < plot.zero) == (point.gain > 0)
    assert [point.truncated for point in plot.points] == [False, True, False]
    assert [group.queries for group in plot.bins] == [1, 1, 1]
    assert sum(group.gain for group in plot.bins) == pytest.approx(gains.sum())
    assert plot.correlation is not None


def test_empty_thoughts_alone_still_have_an_axis(evaluation: Evaluation) -> None:
    plot = length_plot(with_thoughts(evaluation, "", "", ""))
    assert plot is not None
    assert plot.correlation is None
    assert [label for label, _ in plot.x_ticks] == ["0", "1"]
