"""Where training data come from, how long texts may be, and what a step of a stage draws."""

import math
from dataclasses import dataclass, field
from typing import Literal

from t1_jax.errors import ConfigError
from t1_jax.seeds import check_seed


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """One set of training queries and the corpus that they are asked of.

    Attributes:
        collection: a name that `t1 pull` knows, or a folder in the BEIR layout.
        records: JSONL or Parquet files of training records; none takes the collection's training
            queries, with thoughts from its own structure where the package knows it.
        documents: records made from the corpus itself join those (of a known collection).
        lenient: whether flaws of the collection's files are accepted, see
            `t1_jax.retrieval.load_collection`; the run folder counts them.
        shortest_thoughts: of each record's thoughts the so many shortest are learnt from; None
            takes all.
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
    """Where texts are cut, in tokens; the defaults have room for the posts and passages of BRIGHT.

    Attributes:
        query: of a query's prompt, template included.
        thought: of a thought that is given.
        document: of a document with its template and `<emb_token>`.
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
    """What is learnt from.

    Attributes:
        sources: by name.
        lengths: where texts are cut.
        near_duplicates: a training query whose text shares this much of its shingles (Jaccard
            similarity) with that of a held-out query counts as a leak; 1 wants them all.
        leaks: whether a held-out text in a file of records ends the run before it begins, or is
            taken out and counted as a collection's own queries and near duplicates always are.
    """

    sources: dict[str, SourceConfig] = field(default_factory=dict)
    lengths: LengthConfig = LengthConfig()
    near_duplicates: float = 0.8
    leaks: Literal["refuse", "remove"] = "refuse"

    def __post_init__(self) -> None:
        if not 0 < self.near_duplicates <= 1:
            raise ConfigError(
                f"near_duplicates must be over 0 and at most 1, got {self.near_duplicates}"
            )


@dataclass(frozen=True, kw_only=True)
class StageDataConfig:
    """What a step draws.

    Attributes:
        batch_size: queries of a step, over all processes and micro-batches.
        hard_negatives: most negatives drawn for a query; fewer where its record has fewer.
        thoughts: "required" refuses records without one, "optional" takes them as they are,
            "none" draws no thought.
        positives: "best" draws among the positives of the best grade, each as likely; "graded"
            among all, in proportion to their grades.
        mixture: name of a set -> its share of the queries, relative to the others and kept to one
            per cent; empty: in proportion to the numbers of records.
        corpus_pair_fraction: of each set's draws, the share that comes from records made of its
            corpus; 1 draws no query, 0 draws nothing else, None takes both kinds as often as there
            are any.
        homogeneous_batches: a step's queries are of one set, so that each document may be taken for
            the answer to any; sets then take turns, in the proportions of the mixture.
        query_range: which queries of each set may be drawn, as shares from and up to which: stages
            of [0, 0.6] and [0.6, 1] have no query text in common, and together have all.
        seed: of order and choice; parts do not depend on it.
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
                f"corpus_pair_fraction must be a share from 0 to 1, got {self.corpus_pair_fraction}"
            )
        if not 0 <= self.query_range[0] < self.query_range[1] <= 1:
            raise ConfigError(
                f"part must be two rising shares, got {list(self.query_range)}",
                hint="write for example query_range: [0, 0.6]",
            )
