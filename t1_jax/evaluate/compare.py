"""Two runs, query by query: whether they can be compared, paired statistics, queries won and lost.

The interval is the paired percentile bootstrap, the p-value that of the randomization test, which
swaps the two runs at random on each query (Smucker, Allan and Carterette, CIKM 2007).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate.bootstrap import (
    LEVEL,
    PairedDifference,
    bootstrap_means,
    difference_of,
    paired_difference,
)
from t1_jax.evaluate.config import HEADLINE
from t1_jax.evaluate.results import Evaluation, Row
from t1_jax.progress import counted

FEW_QUERIES = 30
"""With fewer queries percentile intervals are too narrow for a verdict."""

_PERMUTATIONS_AT_ONCE = 500
_IDS_SHOWN = 5


@dataclass(frozen=True, kw_only=True, eq=False)
class CollectionScores:
    """The scores of one run on one collection.

    Attributes:
        query_ids: the queries.
        values: metric -> score of each query.
        data_hash: hash of the documents.
        qrels_hash: hash of queries, qrels and exclusions.
        query_hashes: query -> hash of its text, qrels and exclusions, see
            `Collection.query_hashes`; empty for results of an earlier version.
        missing: number of queries without any result.
    """

    query_ids: tuple[str, ...]
    values: Mapping[str, Float[np.ndarray, " B"]]
    data_hash: str
    qrels_hash: str
    query_hashes: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    missing: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class ScoredRun:
    """A retriever's scores on one or several collections.

    Attributes:
        name: how tables call it.
        collections: title, such as `cwe/test` -> scores.
        settings: setting -> value, for all that is known about how it was made.
        oracle: whether it has seen the answers.
        index_recall: recall@10 of its index against exact search.
    """

    name: str
    collections: Mapping[str, CollectionScores]
    settings: Mapping[str, str] = field(default_factory=dict)
    oracle: bool = False
    index_recall: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Two runs on one collection and metric, or on the mean over collections.

    Attributes:
        title: collection, or "mean of 3 collections".
        metric: name of the metric.
        first: mean of the first run.
        second: mean of the second run.
        difference: second minus first; `better` counts the queries that the second run wins.
        p_value: two-sided p-value of the randomization test.
    """

    title: str
    metric: str
    first: float
    second: float
    difference: PairedDifference
    p_value: float

    @property
    def significant(self) -> bool:
        """Whether interval and test agree that there is a difference, on enough queries."""
        enough = self.difference.queries >= FEW_QUERIES
        return enough and self.difference.excludes_zero and self.p_value < 1 - LEVEL


@dataclass(frozen=True, kw_only=True, eq=False)
class RunComparison:
    """Everything that `t1 compare` says about two comparable runs.

    Attributes:
        first: name of the first run.
        second: name of the second run.
        comparisons: one for each collection and metric; last the means over collections.
        gains: collection -> query -> score of the second run minus that of the first, in the first
            metric.
        settings: setting -> its two values, where they differ.
        caveats: what qualifies the comparison, a sentence each.
    """

    first: str
    second: str
    comparisons: tuple[Comparison, ...]
    gains: Mapping[str, Mapping[str, float]]
    settings: Mapping[str, tuple[str, str]]
    caveats: tuple[str, ...]


def scored_run(name: str, evaluations: Sequence[Evaluation], rows: Sequence[Row]) -> ScoredRun:
    """The scores of one row of each evaluation."""
    return ScoredRun(
        name=name,
        collections={
            evaluation.title: CollectionScores(
                query_ids=evaluation.query_ids,
                values=row.values,
                data_hash=evaluation.collection.data_hash,
                qrels_hash=evaluation.collection.qrels_hash,
                query_hashes={
                    query_id: evaluation.collection.query_hashes(query_id)
                    for query_id in evaluation.query_ids
                },
                missing=len(row.missing),
            )
            for evaluation, row in zip(evaluations, rows, strict=True)
        },
        oracle=any(row.oracle for row in rows),
    )


def incomparable(first: ScoredRun, second: ScoredRun, metrics: Sequence[str]) -> list[str]:
    """Why the runs cannot be compared, a sentence each; empty if they can."""
    problems = []
    for run, other in ((first, second), (second, first)):
        if missing := [title for title in run.collections if title not in other.collections]:
            problems.append(f"{other.name} was not evaluated on {', '.join(missing)}")
    for title in (title for title in first.collections if title in second.collections):
        a, b = first.collections[title], second.collections[title]
        if a.data_hash != b.data_hash:
            problems.append(f"{title}: the documents differ")
        problems += [f"{title}: {problem}" for problem in _differing_queries(first, second, title)]
        for metric in metrics:
            for run, scores in ((first, a), (second, b)):
                if metric not in scores.values:
                    known = ", ".join(scores.values)
                    problems.append(f"{title}: {run.name} has no {metric}, only {known}")
    depths = [run.settings.get("config.top_k") for run in (first, second)]
    if len(set(depths) - {None}) > 1 and (uncut := [m for m in metrics if "@" not in m]):
        problems.append(f"{', '.join(uncut)}: rankings of {depths[0]} and {depths[1]} documents")
    return problems


def _differing_queries(first: ScoredRun, second: ScoredRun, title: str) -> list[str]:
    """How queries, qrels and exclusions of a collection differ, a reason each with a few ids."""
    a, b = first.collections[title], second.collections[title]
    problems = [
        f"only {run.name} has {_named(only)}"
        for run, mine, other in ((first, a, b), (second, b, a))
        if (only := sorted(set(mine.query_ids) - set(other.query_ids)))
    ]
    common = sorted(set(a.query_ids) & set(b.query_ids))
    for part, what in (
        ("text", "the texts differ"),
        ("qrels", "the qrels differ"),
        ("excluded", "the excluded documents differ"),
    ):
        if differing := [
            query_id
            for query_id in common
            if len(hashes := {_hash_of(scores, query_id, part) for scores in (a, b)}) > 1
            and None not in hashes
        ]:
            problems.append(f"{what}: {_named(differing)}")
    if not problems and a.qrels_hash != b.qrels_hash:  # results of an earlier version
        problems.append("queries, qrels or excluded documents differ")
    return problems


def _hash_of(scores: CollectionScores, query_id: str, part: str) -> str | None:
    return scores.query_hashes.get(query_id, {}).get(part)


def _named(query_ids: Sequence[str]) -> str:
    """Their number, and the first of them."""
    more = ", ..." if len(query_ids) > _IDS_SHOWN else ""
    shown = ", ".join(map(repr, query_ids[:_IDS_SHOWN]))
    return f"{counted(len(query_ids), 'queries')} ({shown}{more})"


def caveats(first: ScoredRun, second: ScoredRun) -> list[str]:
    """What qualifies a comparison that can be made, a sentence each."""
    sentences = []
    for letter, run in (("A", first), ("B", second)):
        if run.oracle:
            sentences.append(f"{letter} has seen the answers: it is an upper bound, not a result")
        if run.index_recall < 1:
            sentences.append(
                f"{letter} searched an approximate index, with recall@10 of {run.index_recall:.3f}"
            )
        sentences += [
            f"{title}: {letter} has no result for {counted(scores.missing, 'queries')}, which "
            f"count{'s' if scores.missing == 1 else ''} 0"
            for title, scores in run.collections.items()
            if scores.missing
        ]
    return sentences


def compare_runs(
    first: ScoredRun,
    second: ScoredRun,
    *,
    metrics: Sequence[str] = HEADLINE,
    samples: int = 10_000,
    seed: int = 0,
) -> RunComparison:
    """Compares two runs on the same queries, with paired intervals and randomization tests.

    `samples` is the number of resamples and of permutations.

    Raises:
        DataError: they are not comparable; says all reasons.
        ConfigError: no metric.
    """
    if not metrics:
        raise ConfigError("there is no metric to compare", hint="name one, such as nDCG@10")
    if problems := incomparable(first, second, metrics):
        raise DataError(
            f"{first.name} and {second.name} are not comparable\n"
            + "\n".join(f"  - {problem}" for problem in problems),
            hint="evaluate both on the same collections, splits and queries",
        )
    pairs = {metric: _paired_values(first, second, metric) for metric in metrics}
    comparisons = [
        _comparison(title, metric, values, samples, seed)
        for title in first.collections
        for metric in metrics
        for values in [pairs[metric][title]]
    ]
    if len(first.collections) > 1:
        comparisons += [
            _mean_comparison(metric, pairs[metric], samples, seed) for metric in metrics
        ]
    settings = {
        name: (first.settings.get(name, "–"), second.settings.get(name, "–"))
        for name in dict.fromkeys([*first.settings, *second.settings])
    }
    return RunComparison(
        first=first.name,
        second=second.name,
        comparisons=tuple(comparisons),
        gains={
            title: dict(
                zip(
                    first.collections[title].query_ids,
                    (values[:, 1] - values[:, 0]).tolist(),
                    strict=True,
                )
            )
            for title, values in pairs[metrics[0]].items()
        },
        settings={name: values for name, values in settings.items() if values[0] != values[1]},
        caveats=tuple(caveats(first, second)),
    )


def randomization_p_value(
    differences: Float[np.ndarray, " B"],
    weights: Float[np.ndarray, " _"] | None = None,
    *,
    permutations: int = 10_000,
    seed: int = 0,
) -> float:
    """Two-sided p-value of the hypothesis that the signs of the differences are random.

    The statistic is their sum weighted by `weights`, by default their mean. All 2**B assignments
    are counted if they are at most `permutations`.

    Raises:
        ConfigError: fewer than one permutation.
    """
    if permutations < 1:
        raise ConfigError(f"the test needs at least 1 permutation, got {permutations}")
    weighted = differences if weights is None else differences * weights * len(differences)
    if not weighted.any():
        return 1.0
    from scipy import stats  # takes a second, which commands without this test need not wait

    test = stats.permutation_test(
        (weighted,),
        lambda values, axis: values.mean(axis=axis),
        permutation_type="samples",
        vectorized=True,
        n_resamples=permutations,
        batch=_PERMUTATIONS_AT_ONCE,
        rng=np.random.default_rng(seed),
    )
    return float(test.pvalue)


def _paired_values(
    first: ScoredRun, second: ScoredRun, metric: str
) -> dict[str, Float[np.ndarray, "B 2"]]:
    """Collection -> scores of both runs, in the first run's order of queries."""
    pairs = {}
    for title, a in first.collections.items():
        b = second.collections[title]
        row_of = {query_id: row for row, query_id in enumerate(b.query_ids)}
        order = [row_of[query_id] for query_id in a.query_ids]
        pairs[title] = np.stack([a.values[metric], b.values[metric][order]], 1).astype(np.float64)
    return pairs


def _comparison(
    title: str, metric: str, values: Float[np.ndarray, "B 2"], samples: int, seed: int
) -> Comparison:
    first, second = values.T
    return Comparison(
        title=title,
        metric=metric,
        first=float(first.mean()),
        second=float(second.mean()),
        difference=paired_difference(second, first, samples=samples, seed=seed),
        p_value=randomization_p_value(second - first, permutations=samples, seed=seed),
    )


def _mean_comparison(
    metric: str, pairs: Mapping[str, Float[np.ndarray, "B 2"]], samples: int, seed: int
) -> Comparison:
    """The mean over collections, each with the same weight; each is resampled on its own."""
    count = len(pairs)
    columns = [values[:, ::-1] for values in pairs.values()]  # second minus first
    means = np.mean(
        [
            bootstrap_means(values, samples=samples, seed=seed + number)
            for number, values in enumerate(columns)
        ],
        axis=0,
    )
    scaled = [values * (1 / (count * len(values))) for values in columns]
    stacked = np.concatenate(scaled)
    weights = np.concatenate(
        [np.full(len(values), 1 / (count * len(values))) for values in columns]
    )
    differences = np.concatenate([values[:, 0] - values[:, 1] for values in columns])
    # `difference_of` takes the mean over rows: rows scaled by their number give the sum.
    second, first = stacked.sum(axis=0)
    return Comparison(
        title=f"mean of {count} collections",
        metric=metric,
        first=float(first),
        second=float(second),
        difference=difference_of(stacked * len(stacked), means),
        p_value=randomization_p_value(differences, weights, permutations=samples, seed=seed),
    )
