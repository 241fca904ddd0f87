"""Paired statistics: against SciPy and by hand; runs that must not be compared."""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from scipy import stats

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate import (
    Evaluation,
    EvaluationConfig,
    ScoredRun,
    compare_runs,
    comparison_as_latex,
    comparison_as_markdown,
    evaluate_run_file,
    extreme_queries,
    randomization_p_value,
    read_scored_run,
    scored_run,
    write_results,
)
from t1_jax.evaluate.bootstrap import intervals
from t1_jax.evaluate.compare import CollectionScores
from t1_jax.evaluate.comparison_table import verdict
from t1_jax.retrieval import Collection, Document, Query

METRIC = "nDCG@10"


def run(name: str, /, order: Any = None, **values: Any) -> ScoredRun:
    def scores(column: np.ndarray) -> CollectionScores:
        rows = order or range(len(column))
        return CollectionScores(
            query_ids=tuple(f"q{row}" for row in rows),
            values={METRIC: column[list(rows)]},
            data_hash="d",
            qrels_hash="q",
        )

    return ScoredRun(name=name, collections={title: scores(v) for title, v in values.items()})


def compare(first: ScoredRun, second: ScoredRun, samples: int = 400):
    return compare_runs(first, second, metrics=[METRIC], samples=samples)


def test_the_randomization_test_counts_every_assignment_of_signs():
    differences = np.array([0.5, 0.25, 0.25, -0.125])
    signs = np.array(np.meshgrid(*[[-1, 1]] * 4)).reshape(4, -1)
    means = np.abs(signs.T @ differences)
    exact = (means >= abs(differences.sum()) - 1e-12).mean()
    assert randomization_p_value(differences, permutations=100) == pytest.approx(exact)
    weights = np.array([0.7, 0.1, 0.1, 0.1])
    means = np.abs(signs.T @ (differences * weights))
    exact = (means >= abs(differences @ weights) - 1e-12).mean()
    assert randomization_p_value(differences, weights, permutations=99) == pytest.approx(exact)
    assert randomization_p_value(np.zeros(50)) == 1
    with pytest.raises(ConfigError, match="at least 1 permutation"):
        randomization_p_value(differences, permutations=0)


def test_intervals_are_those_of_scipy():
    values = np.random.default_rng(0).random((50, 2))
    peer = stats.bootstrap(
        (values.T,), np.mean, axis=-1, method="percentile", n_resamples=500,
        rng=np.random.default_rng(3),
    ).confidence_interval  # fmt: skip
    found = intervals(values, samples=500, seed=3)
    np.testing.assert_allclose([item.low for item in found], peer.low, rtol=1e-12)
    np.testing.assert_allclose([item.high for item in found], peer.high, rtol=1e-12)


def test_queries_are_paired_by_id_whatever_their_order():
    values = np.random.default_rng(1).random(40)
    gained = np.clip(values + 0.1, 0, None)
    gained[0], gained[1] = values[0] - 0.5, values[1]
    second = run("B", order=list(range(39, -1, -1)), pets=gained)
    result = compare(run("A", pets=values), second)
    (item,) = result.comparisons
    assert item.first == pytest.approx(values.mean())
    assert item.second == pytest.approx(gained.mean())
    assert item.difference.difference == pytest.approx(gained.mean() - values.mean())
    difference = item.difference
    assert (difference.better, difference.equal, difference.worse) == (38, 1, 1)
    won, lost = extreme_queries(result.gains["pets"], 3)
    assert [query_id for query_id, _ in won] == sorted(
        result.gains["pets"], key=lambda name: (-result.gains["pets"][name], name)
    )[:3]
    assert lost == [("q0", pytest.approx(-0.5))]
    assert item.significant
    assert verdict(item) == "B is better"


def test_the_mean_over_collections_weighs_them_alike():
    generator = np.random.default_rng(2)
    a = {"large": generator.random(300), "small": generator.random(30)}
    b = {"large": a["large"] + 0.01, "small": a["small"] + 0.21}
    *_, mean = compare(run("A", **a), run("B", **b)).comparisons
    assert mean.title == "mean of 2 collections"
    assert mean.difference.difference == pytest.approx(0.11)
    assert (mean.difference.low, mean.difference.high) == pytest.approx((0.11, 0.11))
    assert mean.first == pytest.approx((a["large"].mean() + a["small"].mean()) / 2)
    assert (mean.difference.better, mean.difference.queries) == (330, 330)
    assert mean.p_value == pytest.approx(2 / 401)
    noise = {title: values + generator.normal(0, 0.2, len(values)) for title, values in a.items()}
    *_, mean = compare(run("A", **a), run("B", **noise)).comparisons
    assert mean.difference.low < mean.difference.difference < mean.difference.high
    assert verdict(mean) == "no significant difference"


def test_few_queries_have_no_verdict():
    (item,) = compare(run("A", pets=np.zeros(5)), run("B", pets=np.ones(5))).comparisons
    assert verdict(item).startswith("fewer than 30 queries")


def changed(scores: CollectionScores, **fields: Any) -> ScoredRun:
    return ScoredRun(name="B", collections={"pets": dataclasses.replace(scores, **fields)})


def test_incomparable_runs_are_told_every_reason():
    first = run("A", pets=np.zeros(3))
    scores = first.collections["pets"]
    for fields, reason in (
        ({"data_hash": "x"}, "pets: the documents differ"),
        ({"qrels_hash": "x"}, "pets: queries, qrels or excluded documents differ"),
        (
            {"query_ids": ("q0", "q1", "q7")},
            "pets: only A has 1 query ('q2')\n  - pets: only B has 1 query ('q7')",
        ),
        ({"values": {"MRR": np.zeros(3)}}, "pets: B has no nDCG@10, only MRR"),
    ):
        with pytest.raises(DataError) as caught:
            compare(first, changed(scores, **fields))
        assert caught.value.message == f"A and B are not comparable\n  - {reason}"
    with pytest.raises(DataError) as caught:
        compare(first, run("B", zoo=np.zeros(3)))
    assert "B was not evaluated on pets" in caught.value.message
    assert "A was not evaluated on zoo" in caught.value.message
    deep, flat = (
        dataclasses.replace(run(name, pets=np.zeros(3)), settings={"config.top_k": depth})
        for name, depth in (("A", "100"), ("B", "1000"))
    )
    compare(deep, flat)
    for one in (deep, flat):
        one.collections["pets"].values["MAP"] = np.zeros(3)  # pyright: ignore[reportIndexIssue]
    with pytest.raises(DataError, match="MAP: rankings of 100 and 1000 documents"):
        compare_runs(deep, flat, metrics=["MAP"])


def test_differing_queries_are_named_with_a_reason_each(tmp_path):
    documents = tuple(Document(id=name, text=f"text {name}") for name in "abcd")
    queries = [Query(id=f"q{number}", text=f"text {number}") for number in range(9)]

    def scored(name: str, **changes: Any) -> ScoredRun:
        fields = {"queries": tuple(queries), "qrels": {q.id: {"a": 1} for q in queries}} | changes
        collection = Collection(name="pets", documents=documents, **fields)
        (tmp_path / "run.trec").write_text("q0 Q0 a 1 9 x\n")
        config = EvaluationConfig(bm25=False, bootstrap_samples=20)
        evaluation = evaluate_run_file(tmp_path / "run.trec", collection, "test", config)
        write_results(tmp_path / name, [evaluation])
        return read_scored_run(tmp_path / name, name=name)

    first = scored("A", excluded={"q3": frozenset("b")})
    second = scored(
        "B",
        queries=(*(Query(id=q.id, text=q.text + "?") for q in queries[:7]), *queries[7:]),
        qrels={q.id: {"a": 1 + (q.id == "q1")} for q in queries[:8]},
        excluded={"q4": frozenset("b")},
    )
    with pytest.raises(DataError) as caught:
        compare_runs(first, second, metrics=["nDCG@10"])
    assert caught.value.message.splitlines()[1:] == [
        "  - pets/test: only A has 1 query ('q8')",
        "  - pets/test: the texts differ: 7 queries ('q0', 'q1', 'q2', 'q3', 'q4', ...)",
        "  - pets/test: the qrels differ: 1 query ('q1')",
        "  - pets/test: the excluded documents differ: 2 queries ('q3', 'q4')",
    ]
    compare_runs(first, first, metrics=["nDCG@10"])


def test_what_qualifies_a_comparison_is_said(evaluation: Evaluation, tmp_path):
    write_results(tmp_path / "out", [evaluation])
    path = tmp_path / "out/results.json"
    results = json.loads(path.read_text())
    (collection,) = results["collections"]
    collection["systems"][0]["index_recall_at_10"] = 0.875
    for row in collection["rows"]:
        if row["name"] == "t1-own":
            row["queries_without_result"] = ["q1"]
    path.write_text(json.dumps(results))
    runs = [read_scored_run(tmp_path / "out", name) for name in ("bm25", "t1-own", "t1-gold")]
    title = evaluation.title
    missing = f"{title}: {{}} has no result for 1 query, which counts 0"
    approximate = "{} searched an approximate index, with recall@10 of 0.875"
    oracle = "{} has seen the answers: it is an upper bound, not a result"
    assert compare(runs[1], runs[2]).caveats == (
        approximate.format("A"),
        missing.format("A"),
        oracle.format("B"),
        approximate.format("B"),
    )
    result = compare(runs[0], runs[2])
    assert result.caveats == (
        f"{title}: A has no result for 2 queries, which count 0",
        oracle.format("B"),
        approximate.format("B"),
    )
    assert f"{oracle.format('B')}." in comparison_as_markdown(result)


def test_tables_for_papers_escape_names():
    first, second = run("runs/a_1 & co", pe_ts=np.zeros(3)), run("B|", pe_ts=np.ones(3))
    result = compare(first, second)
    latex = comparison_as_latex(result)
    assert (
        r"  pe\_ts & nDCG@10 & 0.000 & 1.000 & +1.000 [+1.000, +1.000] & 0.25 & 3 & 0 & 0 \\"
        in latex
    )
    assert r"A & B & B $-$ A" in latex
    assert latex.startswith("% A: runs/a_1 & co\n")
    markdown = comparison_as_markdown(result)
    assert (
        "| pe_ts | nDCG@10 | 0.000 | 1.000 | +1.000 [+1.000, +1.000] | 0.25 | 3 | 0 | 0 |"
        in markdown
    )
    assert "B: B\\|" in markdown


def test_a_folder_of_results_is_read_back(evaluation: Evaluation, tmp_path):
    write_results(tmp_path / "out", [evaluation])
    read = read_scored_run(tmp_path / "out")
    kept = scored_run("kept", [evaluation], [evaluation.row("t1-own")])
    assert read.name == "out, t1-own"
    (scores,), (expected,) = read.collections.values(), kept.collections.values()
    assert read.collections.keys() == kept.collections.keys()
    assert scores.query_ids == expected.query_ids
    for metric, values in expected.values.items():
        np.testing.assert_array_equal(scores.values[metric], values)
    assert (scores.data_hash, scores.qrels_hash) == (expected.data_hash, expected.qrels_hash)
    assert read.settings["config.max_thought_tokens"] == "9"
    assert read.settings["model.name"] == "letters"
    other = read_scored_run(tmp_path / "out", "t1-no-think")
    result = compare_runs(read, other)
    assert result.settings == {"row": ("T1, own thought", "T1, no thought")}
    assert len(result.comparisons) == 2


def test_folders_that_are_no_results_or_damaged(evaluation: Evaluation, tmp_path):
    with pytest.raises(DataError, match=r"it has no results\.json"):
        read_scored_run(tmp_path)
    write_results(tmp_path / "out", [evaluation])
    with pytest.raises(ConfigError, match="has no row 'x'"):
        read_scored_run(tmp_path / "out", "x")
    path = tmp_path / "out/results.json"
    results = json.loads(path.read_text())
    for broken, message in (
        (results | {"format": 1}, "has format 1"),
        ({"format": 2}, "'collections'"),
        ([], "damaged"),
    ):
        path.write_text(json.dumps(broken))
        with pytest.raises(DataError, match=message):
            read_scored_run(tmp_path / "out")
