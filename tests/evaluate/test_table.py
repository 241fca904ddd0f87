import dataclasses
import re

import numpy as np
import pytest
from rich.console import Console

from t1_jax.evaluate import Evaluation, ResultsTable, comparison_sentences, to_markdown
from t1_jax.evaluate.table import format_p, signed
from t1_jax.retrieval import Collection


def _cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|\n").split("|")]


def test_every_number_of_the_markdown_table_is_a_mean_or_an_end_of_its_interval(
    evaluation: Evaluation,
):
    header, _, *lines = to_markdown([evaluation]).split("\n\n")[0].splitlines()
    assert _cells(header) == ["Retriever", "toys/test nDCG@10", "toys/test recall@10"]
    assert len(lines) == len(evaluation.rows)
    for row, line in zip(evaluation.rows, lines, strict=True):
        label, *cells = _cells(line)
        assert label == row.label
        for metric, cell in zip(("nDCG@10", "recall@10"), cells, strict=True):
            found = evaluation.intervals[row.name][metric]
            expected = f"{row.values[metric].mean():.3f} [{found.low:.3f}, {found.high:.3f}]"
            best = evaluation.best_row(metric) is row
            assert cell == (f"**{expected}**" if best else expected)


def _printed(evaluations: list[Evaluation], width: int) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as capture:
        console.print(ResultsTable(evaluations))
    return capture.get()


def _renamed(evaluation: Evaluation, name: str) -> Evaluation:
    named = dataclasses.replace(evaluation.collection, name=name)
    return dataclasses.replace(evaluation, collection=named)


def test_the_terminal_shows_the_same_numbers_and_marks_the_best_and_the_oracle(
    evaluation: Evaluation,
):
    text = _printed([evaluation], 120)
    assert "T1, gold thought (oracle)" in text
    for row in evaluation.rows:
        (line,) = [line for line in text.splitlines() if line.strip().startswith(f"{row.label} ")]
        numbers = re.findall(r"\d\.\d{3}\*?", line)
        found = [evaluation.intervals[row.name][m] for m in ("nDCG@10", "recall@10")]
        assert [n.strip("*") for n in numbers] == [
            f"{value:.3f}" for each in found for value in dataclasses.astuple(each)
        ]
        assert ("*" in numbers[0]) == (evaluation.best_row("nDCG@10") is row)


def test_a_narrow_terminal_wraps_labels_and_cuts_no_number(evaluation: Evaluation):
    label = "T1, thoughts verified over the 16 nearest documents (w = 0.05)"
    row = dataclasses.replace(evaluation.rows[0], label=label)
    text = _printed([dataclasses.replace(evaluation, rows=(row, *evaluation.rows[1:]))], 80)
    assert "…" not in text
    assert len(re.findall(r"\d\.\d{3}", text)) >= 6 * len(evaluation.rows)


def test_collections_stand_side_by_side_only_where_they_fit(evaluation: Evaluation):
    both = [evaluation, _renamed(evaluation, "games")]
    wide, narrow = _printed(both, 140), _printed(both, 90)
    assert wide.count("T1, own thought") == 1
    assert narrow.count("T1, own thought") == 2
    assert "…" not in wide + narrow


def test_a_row_that_one_collection_lacks_is_a_dash(evaluation: Evaluation):
    fewer = dataclasses.replace(_renamed(evaluation, "games"), rows=evaluation.rows[:2])
    last = to_markdown([evaluation, fewer]).split("\n\n")[0].splitlines()[-1]
    assert _cells(last)[3:] == ["–", "–"]


def test_the_sentence_tells_the_difference_and_does_not_oversell_it(evaluation: Evaluation):
    own, without = evaluation.row("t1-own"), evaluation.row("t1-no-think")
    mean = (own.values["nDCG@10"] - without.values["nDCG@10"]).mean()
    (sentence,) = comparison_sentences(evaluation)
    assert f"own thought minus no thought, nDCG@10 {signed(mean)} [" in sentence
    assert (
        "3 queries (1 better, 1 worse): fewer than 30 queries are too few for a verdict."
        in sentence
    )
    noise = np.random.default_rng(0).random(40)

    def told(own_values: np.ndarray, values_without: np.ndarray) -> str:
        rows = (
            dataclasses.replace(own, values={"nDCG@10": own_values}),
            dataclasses.replace(without, values={"nDCG@10": values_without}),
        )
        return comparison_sentences(dataclasses.replace(evaluation, rows=rows))[0]

    assert told(noise, noise + 0.1).endswith("(0 better, 40 worse): thinking hurts here.")
    assert told(noise, noise - 0.1).endswith("(40 better, 0 worse): thinking helps here.")
    assert told(noise, noise[::-1]).endswith("no significant difference.")
    assert comparison_sentences(dataclasses.replace(evaluation, rows=(own,))) == ()


@pytest.mark.parametrize(
    ("value", "text"), [(0.0124, "+0.012"), (-0.2, "−0.200"), (-0.0001, "0.000"), (0.0, "0.000")]
)
def test_signs_are_true(value: float, text: str):
    assert signed(value) == text


def test_small_p_values_are_bounds():
    assert (format_p(0.0001), format_p(0.043)) == ("p < 0.001", "p = 0.043")


def test_names_with_marks_do_not_break_the_markdown(evaluation: Evaluation):
    row = dataclasses.replace(evaluation.rows[0], label="a|b <i>")
    changed = dataclasses.replace(evaluation, rows=(row,))
    assert "| a\\|b &lt;i> |" in to_markdown([changed])


def test_a_collection_has_its_name_without_a_split(evaluation: Evaluation, collection: Collection):
    assert dataclasses.replace(evaluation, split=None).title == collection.name
