"""Where training data come from, how long texts may be, and what a step of a stage draws."""

import math
from dataclasses import dataclass, field
from typing import Literal

from t1_jax.errors import ConfigError
from t1_jax.seeds import check_seed


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """Training queries and the corpus that they search.

    Attributes:
        collection: a name that `t1 pull` knows, or the folder of a collection.
        records: JSONL or Parquet files of training records; empty takes the collection's training
            queries, with template thoughts if the package has templates for it.
        documents: add corpus pairs, records made from the corpus itself: texts of the source of a
            collection that `t1 pull` knows; of any other, its titles and sentences. They teach the
            model what the documents are called.
        lenient: accept flaws of the collection's files, see `t1_jax.retrieval.load_collection`; the
            run folder counts them.
        shortest_thoughts: keep this many of each record's thoughts, the shortest; null keeps all.
    """

    collection: str
    records: tuple[str, ...] = ()
    documents: bool = False
    lenient: bool = False
    shortest_thoughts: int | None = None

    def __post_init__(self) -> None:
        if self.shortest_thoughts is not None and self.shortest_thoughts < 1:
            raise ConfigError(f"shortest_thoughts must be at least 1, got {self.shortest_thoughts}")


@dataclass(frozen=True, kw_only=True)
class LengthConfig:
    """Maximum lengths in tokens; the defaults fit the posts and passages of BRIGHT.

    Attributes:
        query: maximum length of a query with its template.
        thought: maximum length of a reference thought.
        document: maximum length of a document with its template and `<emb_token>`.
    """

    query: int = 1024
    thought: int = 256
    document: int = 2048

    def __post_init__(self) -> None:
        for name in ("query", "thought", "document"):
            if self.__dict__[name] < 8:
                raise ConfigError(f"{name} must be at least 8 tokens, got {self.__dict__[name]}")


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Training data.

    Attributes:
        sources: name -> source.
        lengths: where texts are truncated.
        near_duplicates: Jaccard similarity of shingles from which a training query is a near
            duplicate of a held-out query, and removed; 1 removes only equal sets of shingles.
        leaks: `refuse` rejects record files that contain a held-out query verbatim; `remove`
            removes and counts these records, as is done with near duplicates and with a
            collection's own queries in any case.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    lengths: LengthConfig = LengthConfig()
    near_duplicates: float = 0.8
    leaks: Literal["refuse", "remove"] = "refuse"

    def __post_init__(self) -> None:
        if not 0 < self.near_duplicates <= 1:
            raise ConfigError(
                f"near_duplicates must be above 0 and at most 1, got {self.near_duplicates}"
            )


@dataclass(frozen=True, kw_only=True)
class StageDataConfig:
    """The examples of a step.

    Attributes:
        batch_size: queries of a step, over all processes and micro-batches.
        hard_negatives: maximum negatives of a query; fewer if its record has fewer.
        thoughts: `required` rejects records without a thought, `optional` accepts them, `none`
            uses no thought.
        positives: `best` samples uniformly among the positives of the best grade; `graded` among
            all, in proportion to their grades.
        mixture: set -> its share of the queries, relative to the others and exact to one per cent;
            empty: in proportion to the numbers of records.
        corpus_pair_fraction: fraction of each set's examples that are corpus pairs; null uses all
            records equally often.
        homogeneous_batches: take all queries of a step from one set, so that in-batch negatives
            come from its corpus; sets alternate in the proportions of the mixture.
        query_range: range of each set's queries to use, as fractions: stages with [0, 0.6] and
            [0.6, 1] share no query text, and together use all.
        seed: seed of order and choice; `query_range` does not depend on it.
    """

    batch_size: int = 64
    hard_negatives: int = 7
    thoughts: Literal["required", "optional", "none"] = "optional"
    positives: Literal["best", "graded"] = "best"
    mixture: dict[str, float] = field(default_factory=dict)
    corpus_pair_fraction: float | None = None
    homogeneous_batches: bool = False
    query_range: tuple[float, float] = (0.0, 1.0)
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise ConfigError(f"batch_size must be at least 1, got {self.batch_size}")
        check_seed(self.seed)
        if self.hard_negatives < 0:
            raise ConfigError(f"hard_negatives must be at least 0, got {self.hard_negatives}")
        for name, weight in self.mixture.items():
            if not (weight > 0 and math.isfinite(weight)):
                raise ConfigError(f"mixture.{name} must be a number above 0, got {weight}")
        if self.corpus_pair_fraction is not None and not 0 <= self.corpus_pair_fraction <= 1:
            raise ConfigError(
                f"corpus_pair_fraction must be from 0 to 1, got {self.corpus_pair_fraction}"
            )
        if not 0 <= self.query_range[0] < self.query_range[1] <= 1:
            raise ConfigError(
                f"query_range must be two increasing fractions, got {list(self.query_range)}",
                hint="write for example query_range: [0, 0.6]",
            )
