"""What an evaluation found: rankings, values per query, thoughts, and what ran."""

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
from t1_jax.retrieval import Collection, Run, rank_documents


def ranking(scores: Mapping[str, float]) -> list[str]:
    """The documents of one query of a run, best first."""
    ids = list(scores)
    return [ids[place] for place in rank_documents(list(scores.values()), ids, len(ids)).tolist()]


@dataclass(frozen=True, kw_only=True)
class ThoughtRecord:
    """One thought from which a query's vector was read.

    Attributes:
        sample: its number among the thoughts of the query.
        text: exactly as written, `<emb_token>` left out.
        tokens: before `<emb_token>`; None where a text was given and not counted.
        log_prob_sum: of the tokens the model drew, in nats at the sampling temperature (at 1 where
            it is 0); None for a given thought.
        finish_reason: "emb_token" (the model ended it), "eos" or "length", or "given".
        source: the query it was written for, where that is another.
    """

    sample: int
    text: str
    tokens: int | None
    log_prob_sum: float | None
    finish_reason: str
    source: str | None = None

    @property
    def emb_token_appended(self) -> bool:
        """Whether the model drew the thought but not its end."""
        return self.finish_reason in ("eos", "length")


@dataclass(frozen=True, kw_only=True)
class ThinkingFacts:
    """What the thoughts of a row were like.

    Attributes:
        thoughts: number drawn.
        tokens: drawn in all, without `<emb_token>`.
        mean_tokens: of a thought.
        truncated_frac: of thoughts whose end the model did not draw.
    """

    thoughts: int
    tokens: int
    mean_tokens: float
    truncated_frac: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Row:
    """One retriever, or one control of a model.

    Attributes:
        name: in files; unique in an evaluation.
        label: in tables.
        system: the model it belongs to, see `System.name`; None for a baseline.
        control: see `CONTROLS`; None for a baseline.
        oracle: whether it has seen the answers.
        run: rankings, best `top_k` documents of each query.
        values: measure -> value of each query, in the order of the evaluation's `query_ids`.
        missing: queries without any result; they count 0.
        unknown: queries that a run ranks and the split does not have; they count nothing.
        judged_ranks: query id -> relevant document id -> rank among all documents, where known.
        thoughts: query id -> its thoughts.
        seconds: wall time for the queries: thinking, embedding, or a baseline's search.
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
    judged_ranks: Mapping[str, Mapping[str, int]]
    thoughts: Mapping[str, tuple[ThoughtRecord, ...]] = field(default_factory=dict)
    seconds: float

    @property
    def thinking(self) -> ThinkingFacts | None:
        """Length and ends of the thoughts; None where the row did not draw its own."""
        drawn = [
            thought
            for thoughts in self.thoughts.values()
            for thought in thoughts
            if thought.finish_reason != "given"
        ]
        if not drawn:
            return None
        tokens = sum(thought.tokens or 0 for thought in drawn)
        return ThinkingFacts(
            thoughts=len(drawn),
            tokens=tokens,
            mean_tokens=tokens / len(drawn),
            truncated_frac=sum(thought.emb_token_appended for thought in drawn) / len(drawn),
        )


@dataclass(frozen=True, kw_only=True)
class ModelFacts:
    """What a reader must know about a model to judge or repeat a result.

    Attributes:
        name: as users call it.
        encoder: hex digest of weights, tokenizer and numeric settings.
        prompt: hex digest of the prompt preset.
        details: anything else worth a line: dtype, parameters, devices, longest document.
    """

    name: str
    encoder: str
    prompt: str
    details: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class System:
    """One model as it was evaluated.

    Attributes:
        name: what tables call it; in lower case the prefix of its rows' names.
        model: which it is.
        config: how it was evaluated.
        distinct_documents: texts encoded; equal ones once.
        truncated_documents: distinct texts that were cut to the longest length.
        document_seconds: wall time to encode them, compilation included.
        index_recall_at_10: share of the exact ten best that the index finds for the queries; 1 for
            exact back ends.
    """

    name: str
    model: ModelFacts
    config: EvaluationConfig
    distinct_documents: int
    truncated_documents: int
    document_seconds: float
    index_recall_at_10: float


@dataclass(frozen=True, kw_only=True, eq=False)
class Evaluation:
    """One collection, and what each row found in it.

    Attributes:
        collection: with the evaluated queries only.
        split: of the collection, where it has any.
        excluded_rows: queries of the collection that were not evaluated: not drawn, or without a
            relevant document.
        rows: in the order of the table.
        systems: the models among them.
        started: when, UTC, as ISO 8601.
        seconds: wall time of all.
        bootstrap_samples: behind every interval.
        bootstrap_seed: of the resamples.
    """

    collection: Collection
    split: str | None
    excluded_rows: int
    rows: tuple[Row, ...]
    systems: tuple[System, ...]
    started: str
    seconds: float
    bootstrap_samples: int
    bootstrap_seed: int

    @property
    def title(self) -> str:
        """The collection and its split."""
        return f"{self.collection.name}/{self.split}" if self.split else self.collection.name

    @cached_property
    def query_ids(self) -> tuple[str, ...]:
        """The evaluated queries; entry i of every row's values belongs to query i."""
        return tuple(query.id for query in self.collection.queries)

    @property
    def metrics(self) -> tuple[str, ...]:
        """What every row was scored by."""
        return tuple(self.rows[0].values)

    @cached_property
    def intervals(self) -> Mapping[str, Mapping[str, Interval]]:
        """Row name -> measure -> mean and interval; all rows share their resamples."""
        found = intervals_of(self._values, self._means)
        table: dict[str, dict[str, Interval]] = {row.name: {} for row in self.rows}
        for (name, measure), column in self._columns.items():
            table[name][measure] = found[column]
        return table

    @cached_property
    def _columns(self) -> Mapping[tuple[str, str], int]:
        """Row name and measure -> column of `_values` and `_means`."""
        keys = [(row.name, measure) for row in self.rows for measure in row.values]
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
        """The row of that name.

        Raises:
            ConfigError: there is none.
        """
        for row in self.rows:
            if row.name == name:
                return row
        known = ", ".join(row.name for row in self.rows)
        raise ConfigError(f"{self.title} has no row {name!r}", hint=f"use one of {known}")

    def control(self, control: str, system: str | None = None) -> Row | None:
        """The row of a control, of the first system or of the one named; None if it did not run."""
        wanted = system or (self.systems[0].name if self.systems else None)
        for row in self.rows:
            if row.control == control and row.system == wanted:
                return row
        return None

    def compare(self, first: Row, second: Row, measure: str) -> PairedDifference:
        """`first` minus `second`, query by query, with the same resamples as the intervals."""
        columns = [self._columns[row.name, measure] for row in (first, second)]
        return difference_of(self._values[:, columns], self._means[:, columns])

    def best_row(self, measure: str) -> Row:
        """The row with the highest mean that has not seen the answers; the first of equals."""
        honest = [row for row in self.rows if not row.oracle]
        return max(honest, key=lambda row: self.intervals[row.name][measure].mean)

    def joined_with(self, others: Sequence["Evaluation"]) -> "Evaluation":
        """This evaluation with the rows of others on the same queries, judgments and documents.

        A row whose name is already there is left out if it is a baseline with equal rankings.

        Raises:
            DataError: another collection, other queries, other judgments, other measures, or a
                row name that stands for two things.
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
        ours, theirs = self.collection, other.collection
        for what, a, b in (
            ("documents", ours.data_hash, theirs.data_hash),
            ("queries", self.query_ids, other.query_ids),
            ("qrels", ours.qrels_hash, theirs.qrels_hash),
            ("metrics", self.metrics, other.metrics),
        ):
            if a != b:
                raise DataError(f"{self.title} and {other.title} have different {what}")
