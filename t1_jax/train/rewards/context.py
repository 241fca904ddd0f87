"""What a reward function is given."""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import TypeVar

import numpy as np

from t1_jax.errors import ConfigError, DataError
from t1_jax.generate import Thought
from t1_jax.train.data import TrainingRecord
from t1_jax.train.rewards.outcome import RetrievalOutcome

GAIN_MEASURES = ("log_rank", "ndcg", "gap")


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """Settings of the built-in rewards.

    Attributes:
        ndcg_k: the ranking's depth that "ndcg" looks at.
        length_target: reasoning tokens up to which "length" pays in full; it pays nothing from
            twice as many on. None takes half the budget.
        repetition_ngram: "repetition" and "copying" compare sequences of so many tokens or words.
        gain_of: what "gain" takes the difference of: "log_rank", "ndcg" or "gap".

    Raises:
        ConfigError: a value out of range, or an unknown name.
    """

    ndcg_k: int = 10
    length_target: int | None = None
    repetition_ngram: int = 4
    gain_of: str = "log_rank"

    def __post_init__(self) -> None:
        for name in ("ndcg_k", "length_target", "repetition_ngram"):
            value = self.__dict__[name]
            if value is not None and value < 1:
                raise ConfigError(f"{name} must be at least 1, got {value}")
        if self.gain_of not in GAIN_MEASURES:
            raise ConfigError(
                f"unknown gain_of {self.gain_of!r}", hint=f"use one of {', '.join(GAIN_MEASURES)}"
            )


@dataclass(frozen=True, kw_only=True, eq=False)
class RewardContext:
    """P prompts with G thoughts each, and what the thoughts brought up.

    `compute_rewards` gives every reward read-only arrays.

    Attributes:
        thoughts: P groups of G.
        records: the P queries.
        outcome: where the thoughts put the positives.
        nothink: where the query's vector without a thought puts them, [P, 1, R]; None unless a
            reward needs it (`RewardConfig.needs_nothink`).
        max_thought_tokens: most reasoning tokens of a thought.
        special_ids: of the tokenizer's special tokens; a thought of nothing else says nothing.
        options: settings of the built-in rewards; `compute_rewards` puts those of its config here.

    Raises:
        DataError: counts of prompts or thoughts that do not agree.
    """

    thoughts: Sequence[Sequence[Thought]]
    records: Sequence[TrainingRecord]
    outcome: RetrievalOutcome
    nothink: RetrievalOutcome | None = None
    max_thought_tokens: int
    special_ids: frozenset[int] = frozenset()
    options: RewardOptions = field(default_factory=RewardOptions)

    def __post_init__(self) -> None:
        prompts, thoughts = self.outcome.shape
        counts = {len(group) for group in self.thoughts}
        if len(self.thoughts) != prompts or len(self.records) != prompts or counts != {thoughts}:
            raise DataError(
                f"a standing of {prompts} prompts with {thoughts} thoughts each, but "
                f"{len(self.records)} records and {len(self.thoughts)} groups of "
                f"{sorted(counts)} thoughts"
            )
        if self.nothink is not None and self.nothink.shape != (prompts, 1):
            raise DataError(
                f"the no-think standing must be of ({prompts}, 1), got {self.nothink.shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """P prompts, G thoughts each: the shape of every reward."""
        return self.outcome.shape

    def read_only(self) -> "RewardContext":
        """The same context with views of its arrays that cannot be written to."""
        return replace(
            self,
            thoughts=tuple(tuple(map(_read_only, group)) for group in self.thoughts),
            outcome=_read_only(self.outcome),
            nothink=None if self.nothink is None else _read_only(self.nothink),
        )


T = TypeVar("T", Thought, RetrievalOutcome)


def _read_only(item: T) -> T:
    """A copy of a dataclass with read-only views in place of its arrays."""
    views = {
        name: value.view() for name, value in vars(item).items() if isinstance(value, np.ndarray)
    }
    for view in views.values():
        view.flags.writeable = False
    return replace(item, **views)
