"""Tables say what the results say, and nothing where there are none."""

from pathlib import Path

import pytest

from benchmarks.experiment.collected import collect
from benchmarks.experiment.plan import PLAN, load_plan
from benchmarks.experiment.report import main, renewed, write_page
from benchmarks.experiment.results import Result, is_current, read_result
from benchmarks.experiment.tables import NOTHING, TABLES
from t1_jax.errors import DataError
from tests.benchmarks.experiment.toys import put, row, toy_plan

ROOT = Path(__file__).parents[3]
S3 = {
    "own": row([1.0, 0.5, 0.5, 0.0], mean_tokens=7.0, truncated_frac=0.25),
    "no-think": row([0.5, 0.0, 0.0, 0.5]),
    "empty": row([0.25, 0.25, 0.25, 0.25]),
}


def cells(table: str, label: str) -> list[str]:
    """The cells of the row that begins with a label."""
    (line,) = [line for line in table.splitlines() if line.startswith(f"| {label} |")]
    return [cell.strip() for cell in line.strip("|").split("|")]


def table(name: str, folder: Path) -> str:
    return TABLES[name](toy_plan(folder), collect(folder, "test"))


def test_means_and_tokens_of_the_systems_that_are_there(tmp_path):
    put(tmp_path, "s3", S3, training_tokens=12_345)
    put(tmp_path, "bm25", {"run": row([0.25] * 4)})
    found = table("main", tmp_path)
    assert cells(found, "BM25")[1:] == ["0.250 [0.250, 0.250]", "1.000 [1.000, 1.000]", "–"]
    _, ndcg, recall, tokens = cells(found, "After S3")
    assert ndcg.startswith("0.500 [")
    assert recall.startswith("0.750 [")
    assert tokens == "12,345"
    assert "After S2" not in found
    assert "4 test queries of zoo" in found


def test_a_difference_is_paired(tmp_path):
    put(tmp_path, "s3", S3)
    put(tmp_path, "s2", {"own": row([0.75, 0.25, 0.25, -0.25])})
    found = table("comparisons", tmp_path)
    # Each query gains 0.25, so the interval has no width, however the queries themselves spread.
    assert cells(found, "S3 minus S2")[1:5] == [
        "zoo", "+0.250 [+0.250, +0.250]", "p < 0.001", "4 / 0",
    ]  # fmt: skip
    assert cells(found, "thought")[2].startswith("+0.250 [")
    assert cells(found, "thought")[4] == "3 / 1"


def test_controls_samples_budgets_and_cost(tmp_path):
    put(tmp_path, "s3", S3)
    put(
        tmp_path,
        "s3",
        {"samples-3": row([1.0] * 4, mean_tokens=5.0)},
        measurement="samples-3",
        settings={"sampling": {"temperature": 0.7}},
    )
    put(
        tmp_path, "s3", {"budget-8": row([0.5] * 4)}, measurement="budget-8",
        settings={"max_thought_tokens": 8},
    )  # fmt: skip
    facts = {"hardware": {"processor": "Abacus", "cores": "2"}}
    seconds = {"no-think": 0.01, "own": 0.5, "samples-3": 1.25, "document": 0.125}
    put(tmp_path, "s3", {}, measurement="cost", seconds=seconds, facts=facts)
    controls = table("controls", tmp_path)
    assert cells(controls, "empty thought")[1] == "0.250 [0.250, 0.250]"
    assert cells(controls, "mean tokens, own thought")[1] == "7.0"
    assert cells(controls, "truncated, own thought")[1] == "25 %"
    samples = table("samples", tmp_path)
    assert cells(samples, "3, sampled at temperature 0.7")[1:] == [
        "1.000 [1.000, 1.000]", "15.0", "1.250",
    ]  # fmt: skip
    assert cells(samples, "no thought")[2:] == ["–", "0.010"]
    by_limit = table("budget", tmp_path)
    assert [cells(by_limit, size)[1][:5] for size in ("0", "8", "32")] == [
        "0.250",
        "0.500",
        "0.500",
    ]
    cost = table("cost", tmp_path)
    assert cells(cost, "After S3")[1:] == ["0.0100", "0.5000", "0.1250"]
    assert "Abacus, 2 cores" in cost


def test_an_ablation_stands_under_what_it_is_one_of(tmp_path):
    put(tmp_path, "s3", S3)
    put(tmp_path, "bare", {"own": row([0.5, 0.0, 0.0, -0.5])})
    found = table("ablations", tmp_path)
    assert found.index("After S3") < found.index("S3 bare")
    assert cells(found, "S3 bare")[2] == "−0.500 [−0.500, −0.500]"
    assert cells(found, "After S3")[2] == "–"
    assert "bare" not in table("main", tmp_path)


def test_a_thought_is_text_and_not_markup(tmp_path):
    example = {"query_id": "q2", "query": "a|b\nc", "thought": "<b>*x*"}
    examples = [example, example | {"query_id": "q3"}]
    own = row([1.0, 0.5, 0.5, 0.0], mean_tokens=1.0, examples=examples)
    put(tmp_path, "s3", {**S3, "own": own})
    found = table("examples", tmp_path)
    assert r"| a\|b c | \<b\>\*x\* | 0.50 | 0.00 |" in found
    assert found.count("a\\|b c") == 1  # a text that several queries have is shown once


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"ids": ["q1", "q2", "q3", "q5"]}, "different queries"),
        ({"settings": {"max_thought_tokens": 16}}, "different max_thought_tokens"),
        ({"settings": {"dtype": "float32"}}, "different dtype"),
    ],
)
def test_results_that_cannot_be_compared_are_refused(tmp_path, fields, message):
    put(tmp_path, "s2", {"own": row([0.0] * 4)}, settings={"dtype": "bfloat16"})
    put(tmp_path, "s3", S3, **fields)
    with pytest.raises(DataError, match=message):
        table("main", tmp_path)


def test_results_of_older_weights_are_refused(tmp_path):
    put(tmp_path, "s3", S3, model="new")
    put(tmp_path, "s3", {"samples-3": row([1.0] * 4)}, measurement="samples-3", model="old")
    with pytest.raises(DataError, match="different weights"):
        table("main", tmp_path)


def test_a_measurement_reads_back_and_knows_its_origin(tmp_path):
    file = put(tmp_path, "s3", {"own": row([1 / 3, 0, 0, 0])}, settings={"samples": (1, 3)})
    measured: Result = read_result(file)
    assert measured.rows["own"].values["nDCG@10"][0] == 0.33333
    assert is_current(file, measured.provenance)
    other = put(tmp_path, "s2", {"own": row([0.0] * 4)})
    assert not is_current(file, read_result(other).provenance)
    file.write_text(file.read_text().replace("0.33333, ", ""))
    with pytest.raises(DataError, match="score for each"):
        read_result(file)


def test_only_what_is_marked_changes(tmp_path):
    page = tmp_path / "page.md"
    text = "# Title\n\n<!-- table:main -->\nold\n<!-- end -->\n\nWords.\n"
    page.write_text(text)
    plan = toy_plan(tmp_path / "results")
    write_page(plan, page, pictures=False)
    assert page.read_text() == text.replace("old", NOTHING)
    put(tmp_path / "results", "s3", S3)
    write_page(plan, page, pictures=False)
    first = page.read_text()
    assert first.startswith("# Title\n\n<!-- table:main -->\n| system |")
    assert first.endswith("\n<!-- end -->\n\nWords.\n")
    write_page(plan, page, pictures=False)
    assert page.read_text() == first
    for wrong, message in (("<!-- table:mian -->\n<!-- end -->", "mian"), (text[:40], "no end")):
        with pytest.raises(DataError, match=message):
            renewed(wrong, plan, collect(plan.results, "test"))


def test_the_page_says_what_the_results_say(monkeypatch):
    monkeypatch.chdir(ROOT)
    plan, text = load_plan(PLAN), Path("docs/experiment.md").read_text(encoding="utf-8")
    for name in TABLES:
        assert f"<!-- table:{name} -->" in text
    assert renewed(text, plan, collect(plan.results, plan.split)) == text


def test_pictures_are_the_same_each_time(tmp_path):
    pytest.importorskip("matplotlib")
    put(tmp_path / "results", "s3", S3)
    (tmp_path / "results/curves").mkdir()
    (tmp_path / "results/curves/run.json").write_text(
        '{"points": [{"step": 0, "tokens": 0, "validation/ndcg@10": 0.1}, '
        '{"step": 5, "tokens": 9, "validation/ndcg@10": 0.5}]}'
    )
    page = tmp_path / "page.md"
    page.write_text("<!-- table:budget -->\n<!-- end -->\n")
    written = write_page(toy_plan(tmp_path / "results"), page)
    assert [file.name for file in written] == ["page.md", "budget.svg", "validation.svg"]
    before = [file.read_bytes() for file in written]
    write_page(toy_plan(tmp_path / "results"), page)
    assert [file.read_bytes() for file in written] == before
    assert b"zoo" in before[1]


def test_a_mistake_is_told_in_a_line(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(ROOT)
    assert main(["--page", str(tmp_path / "none.md")]) == 2
    assert "cannot be read" in capsys.readouterr().err
