"""Metrics of thousands of random rankings: pytrec_eval's own, and the formulas written out."""

import math

import numpy as np
import pytest
import pytrec_eval

from t1_jax.retrieval import score_run

CUTS = (1, 3, 10, 100)
METRICS = {
    **{f"nDCG@{k}": f"ndcg_cut_{k}" for k in CUTS},
    **{f"recall@{k}": f"recall_{k}" for k in CUTS},
    **{f"P@{k}": f"P_{k}" for k in CUTS},
    **{f"MAP@{k}": f"map_cut_{k}" for k in CUTS},
    "MAP": "map",
    "MRR": "recip_rank",
}
QUERIES = 4000


@pytest.fixture(scope="module")
def cases() -> tuple[dict, dict]:
    """Runs and qrels with ties, near ties, missing and empty queries, and labels of all kinds.

    A near tie differs by 6e-8 or less, which float32 rounds to a tie or not.
    """
    generator = np.random.default_rng(0)
    names = [*map(str, range(30)), "a", "B", "Z z", "é", "日本", "\U0001f600", "x" * 40]
    run, qrels = {}, {}
    for number in range(QUERIES):
        query = f"q{number}"
        judged = generator.permutation(names)[: generator.integers(1, 12)].tolist()
        qrels[query] = {name: int(generator.integers(-1, 4)) for name in judged}
        qrels[query][judged[0]] = int(generator.integers(1, 4))
        if number % 17 == 0:
            continue  # missing
        size = 0 if number % 19 == 0 else int(generator.integers(1, len(names) + 1))
        ranked = generator.permutation(names)[:size].tolist()
        scores = [
            generator.integers(0, 4, size).astype(float),
            1 + generator.integers(-3, 4, size) * 2e-8,
            generator.normal(size=size) * 10.0 ** generator.integers(-30, 30),
            generator.normal(size=size),
        ][number % 4]
        run[query] = dict(zip(ranked, scores.tolist(), strict=True))
    return run, qrels


def plain(scores: dict[str, float], labels: dict[str, int]) -> dict[str, float]:
    """trec_eval's definitions: float32 scores, ties by id in descending order."""
    order = sorted(scores, key=lambda name: (np.float32(scores[name]), name.encode()), reverse=True)
    gains = [max(labels.get(name, 0), 0) for name in order]
    ideal = sorted((label for label in labels.values() if label > 0), reverse=True)
    precisions = [
        sum(gain > 0 for gain in gains[: rank + 1]) / (rank + 1) for rank, gain in enumerate(gains)
    ]

    def dcg(values: list[int]) -> float:
        return sum(value / math.log2(rank + 2) for rank, value in enumerate(values))

    def average_precision(k: int | None) -> float:
        pairs = zip(gains[:k], precisions[:k], strict=True)
        return sum(precision for gain, precision in pairs if gain) / len(ideal)

    found = {"MAP": average_precision(None)}
    found["MRR"] = next((1 / (rank + 1) for rank, gain in enumerate(gains) if gain), 0.0)
    for k in CUTS:
        relevant = sum(gain > 0 for gain in gains[:k])
        found |= {
            f"nDCG@{k}": dcg(gains[:k]) / dcg(ideal[:k]),
            f"recall@{k}": relevant / len(ideal),
            f"P@{k}": relevant / k,
            f"MAP@{k}": average_precision(k),
        }
    return found


def test_every_value_is_that_of_pytrec_eval(cases: tuple[dict, dict]):
    run, qrels = cases
    keys = {"ndcg_cut", "recall", "P", "map_cut"}
    wanted = {f"{key}.{','.join(map(str, CUTS))}" for key in keys} | {"map", "recip_rank"}
    peer = pytrec_eval.RelevanceEvaluator(qrels, wanted).evaluate(run)
    ours = score_run(run, qrels, metrics=list(METRICS))
    for query in qrels:
        for metric, key in METRICS.items():
            expected = peer[query][key] if run.get(query) else 0.0
            assert ours.per_query[metric][query] == expected, (query, metric)
    assert set(ours.missing) == {query for query in qrels if not run.get(query)}
    assert len(ours.missing) > 400


def test_every_value_follows_the_formula(cases: tuple[dict, dict]):
    run, qrels = cases
    ours = score_run(run, qrels, metrics=list(METRICS))
    for query, labels in qrels.items():
        for metric, value in plain(run.get(query, {}), labels).items():
            assert abs(ours.per_query[metric][query] - value) < 1e-9, (query, metric)


def test_near_ties_are_ties_in_float32_only(cases: tuple[dict, dict]):
    """The cases have both kinds, so the tests above distinguish float32 from float64."""
    run, _ = cases
    near = [set(scores.values()) for number, scores in enumerate(run.values()) if number % 4 == 1]
    assert any(len(values) > len(set(map(np.float32, values))) > 1 for values in near)
