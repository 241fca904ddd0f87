"""What may be told of the queries of a step, and what is then drawn for one of them."""

import math
from dataclasses import dataclass, field
from typing import Literal

from t1_jax.errors import ConfigError
from t1_jax.seeds import check_seed
from t1_jax.train.data.records import TrainingRecord


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


@dataclass(frozen=True, kw_only=True)
class Example:
    """One query of a step with what was chosen for it; documents are ids in its set.

    Attributes:
        set_name: of the training set; documents of a step are keyed by it and their id.
        record: what was drawn from.
        positive: the chosen positive.
        negatives: the chosen negatives, none twice.
        thought: the chosen alternative; None where there is none.
        task: of the set, see `TrainingSet.task`.
    """

    set_name: str
    record: TrainingRecord
    positive: str
    negatives: tuple[str, ...]
    thought: str | None
    task: str | None = None
