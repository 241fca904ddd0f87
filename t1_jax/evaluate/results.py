"""The results of an evaluation: rankings, scores per query, thoughts, and settings."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
from jaxtyping import Float

from t1_jax.errors import ConfigError, DataError
from t1_jax.evaluate.bootstrap import (
    Interval,
    PairedDifference,
    bootstrap_means,
    difference_of,
    intervals_of,
)
from t1_jax.evaluate.config import EvaluationConfig
from t1_jax.evaluate.sentences import SentenceEffect
from t1_jax.progress import counted
from t1_jax.retrieval import Collection, Run, rank_documents


def ranking(scores: Mapping[str, float]) -> list[str]:
    """The documents of one query in a run, best first."""
    ids = list(scores)
    return [ids[row] for row in rank_documents(list(scores.values()), ids, len(ids)).tolist()]


@dataclass(frozen=True, kw_only=True)
class ThoughtRecord:
    """One thought behind a query embedding.

    Attributes:
        sample: number among the thoughts of the query.
        text: text without `<emb_token>`.
        tokens: tokens before `<emb_token>`; None for a given text that was not counted.
        log_prob_sum: sum over the sampled tokens in nats, at the sampling temperature, or at 1 if
            that is 0; None for a given thought.
        finish_reason: "emb_token" (ended by the model), "eos", "length", or "given".
        source: id of the query it was sampled for, if that is another query.
    """

    sample: int
    text: str
    tokens: int | None
    log_prob_sum: float | None
    finish_reason: str
    source: str | None = None

    @property
    def emb_token_appended(self) -> bool:
        """Whether the model sampled the thought but not `<emb_token>`."""
        return self.finish_reason in ("eos", "length")


@dataclass(frozen=True, kw_only=True)
class ThinkingFacts:
    """Statistics of the thoughts of a row.

    Attributes:
        thoughts: number of sampled thoughts.
        tokens: sampled tokens in all, without `<emb_token>`.
        mean_tokens: mean tokens per thought.
        truncated_frac: fraction of thoughts without a sampled `<emb_token>`.
    """

    thoughts: int
    tokens: int
    mean_tokens: float
    truncated_frac: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Row:
    """One row of the table: a baseline, or one control of a model.

    Attributes:
        name: name in files, unique in an evaluation.
        label: name in tables.
        system: the model's `System.name`; None for a baseline.
        control: key of `CONTROLS`; None for a baseline.
        oracle: whether it has seen the answers.
        run: rankings, the top `top_k` documents of each query.
        values: metric -> value of each query, in the order of the evaluation's `query_ids`.
        missing: queries without any result; they count 0.
        unknown: queries in the run that the split does not have; they are ignored.
        relevant_ranks: query id -> relevant document id -> rank among all documents, if known.
        thoughts: query id -> its thoughts.
        seconds: wall time for the queries: thinking and embedding, or a baseline's search.
    """

    name: str
    label: str
    system: str | None = None
    control: str | None = None
    oracle: bool = False
    run: Run
    values: Mapping[str, Float[np.ndarray, " B"]]
    missing: tuple[str, ...]
    unknown: tuple[str, ...] = ()
    relevant_ranks: Mapping[str, Mapping[str, int]]
    thoughts: Mapping[str, tuple[ThoughtRecord, ...]] = field(default_factory=dict)
    seconds: float

    def __repr__(self) -> str:
        means = ", ".join(f"{metric} {values.mean():.3f}" for metric, values in self.values.items())
        return f"Row({self.label!r}, {means})"

    @property
    def thinking(self) -> ThinkingFacts | None:
        """Statistics of the sampled thoughts; None if the row has none."""
        sampled = [
            thought
            for thoughts in self.thoughts.values()
            for thought in thoughts
            if thought.finish_reason != "given"
        ]
        if not sampled:
            return None
        tokens = sum(thought.tokens or 0 for thought in sampled)
        return ThinkingFacts(
            thoughts=len(sampled),
            tokens=tokens,
            mean_tokens=tokens / len(sampled),
            truncated_frac=sum(thought.emb_token_appended for thought in sampled) / len(sampled),
        )


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """A description of a model that is enough to repeat a result.

    Attributes:
        name: name of the model.
        encoder: hex digest of weights, tokenizer and numeric settings.
        prompt: hex digest of the prompt preset.
        is_trained: False if the model was never trained to retrieve.
        details: further facts, such as dtype, devices and maximum lengths.
    """

    name: str
    encoder: str
    prompt: str
    is_trained: bool = True
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class System:
    """One model as it was evaluated.

    Attributes:
        name: name in tables; in lower case the prefix of its rows' names.
        model: description of the model.
        config: settings of the evaluation.
        distinct_documents: number of distinct texts encoded.
        truncated_documents: number of distinct texts that were truncated.
        document_seconds: wall time to encode them, including compilation.
        index_recall_at_10: recall@10 of the index against exact search; 1 for exact back ends.
    """

    name: str
    model: ModelFacts
    config: EvaluationConfig
    distinct_documents: int
    truncated_documents: int
    document_seconds: float
    index_recall_at_10: float


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Evaluation:
    """The results on one collection.

    Attributes:
        collection: the collection, with the evaluated queries only.
        split: name of the split, if there is one.
        skipped_queries: number of queries that were not sampled, or have no relevant document.
        rows: rows of the table, in order.
        systems: the models among them.
        started: start time in UTC, ISO 8601.
        seconds: total wall time.
        bootstrap_samples: number of resamples.
        bootstrap_seed: seed of the resamples.
        sentence_effects: query id -> the effect of each sentence of the first model's own thought,
            for the queries that `EvaluationConfig.leave_one_out` asks for.
    """

    collection: Collection
    split: str | None
    skipped_queries: int
    rows: tuple[Row, ...]
    systems: tuple[System, ...]
    started: str
    seconds: float
    bootstrap_samples: int
    bootstrap_seed: int
    sentence_effects: Mapping[str, tuple[SentenceEffect, ...]] = field(default_factory=dict)

    def __repr__(self) -> str:
        labels = ", ".join(row.label for row in self.rows)
        return f"Evaluation({self.title!r}, {counted(len(self.query_ids), 'queries')}: {labels})"

    @property
    def title(self) -> str:
        """Collection and split, as in `cwe/test`."""
        return f"{self.collection.name}/{self.split}" if self.split else self.collection.name

    @cached_property
    def query_ids(self) -> tuple[str, ...]:
        """The evaluated queries; entry i of every row's values belongs to query i."""
        return tuple(query.id for query in self.collection.queries)

    @property
    def metrics(self) -> tuple[str, ...]:
        """Names of the metrics."""
        return tuple(self.rows[0].values)

    @cached_property
    def intervals(self) -> Mapping[str, Mapping[str, Interval]]:
        """Row name -> metric -> mean and interval; all rows share their resamples."""
        columns = intervals_of(self._values, self._means)
        table: dict[str, dict[str, Interval]] = {row.name: {} for row in self.rows}
        for (name, metric), column in self._columns.items():
            table[name][metric] = columns[column]
        return table

    @cached_property
    def _columns(self) -> Mapping[tuple[str, str], int]:
        """Row name and metric -> column of `_values` and `_means`."""
        keys = [(row.name, metric) for row in self.rows for metric in row.values]
        return {key: column for column, key in enumerate(keys)}

    @cached_property
    def _values(self) -> Float[np.ndarray, "B M"]:
        return np.stack([column for row in self.rows for column in row.values.values()], axis=1)

    @cached_property
    def _means(self) -> Float[np.ndarray, "S M"]:
        return bootstrap_means(
            self._values, samples=self.bootstrap_samples, seed=self.bootstrap_seed
        )

    def row(self, name: str) -> Row:
        """The row with this name.

        Raises:
            ConfigError: there is no such row.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise ConfigError(f"{self.title} has no row {name!r}", hint=f"use one of {known}")

    def control(self, control: str, system: str | None = None) -> Row | None:
        """The row of a control of a system (default: the first); None if it was not evaluated."""
        wanted = system or (self.systems[0].name if self.systems else None)
        for row in self.rows:
            if row.control == control and row.system == wanted:
                return row
        return None

    def compare(self, first: Row, second: Row, metric: str) -> PairedDifference:
        """`first` minus `second`, query by query, with the same resamples as the intervals."""
        columns = [self._columns[row.name, metric] for row in (first, second)]
        return difference_of(self._values[:, columns], self._means[:, columns])

    def best_row(self, metric: str) -> Row:
        """The row with the highest mean that has not seen the answers; the first if several tie."""
        candidates = [row for row in self.rows if not row.oracle]
        return max(candidates, key=lambda row: self.intervals[row.name][metric].mean)

    def joined_with(self, others: Sequence["Evaluation"]) -> "Evaluation":
        """This evaluation with the rows of others on the same queries, qrels and documents.

        A baseline that is already there with the same rankings is not repeated.

        Raises:
            DataError: other documents, queries, qrels or metrics, or two rows of one name.
        """
        rows = {row.name: row for row in self.rows}
        for other in others:
            self._check_comparable(other)
            for row in other.rows:
                known = rows.get(row.name)
                if known is not None and (row.system is not None or known.run != row.run):
                    raise DataError(
                        f"{self.title}: two evaluations have a row {row.name!r}",
                        hint="give each model a name of its own (system=...)",
                    )
                rows.setdefault(row.name, row)
        return replace(
            self,
            rows=tuple(rows.values()),
            systems=(*self.systems, *(system for other in others for system in other.systems)),
            seconds=self.seconds + sum(other.seconds for other in others),
        )

    def _check_comparable(self, other: "Evaluation") -> None:
        mine, theirs = self.collection, other.collection
        for part, a, b in (
            ("documents", mine.data_hash, theirs.data_hash),
            ("queries", self.query_ids, other.query_ids),
            ("qrels", mine.qrels_hash, theirs.qrels_hash),
            ("metrics", self.metrics, other.metrics),
        ):
            if a != b:
                raise DataError(f"{self.title} and {other.title} have different {part}")
