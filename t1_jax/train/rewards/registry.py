"""What a reward is, rewards by name, and their weighted sum.

To add a reward, write a function of a `RewardContext` that returns a float array [P, G], higher is
better. The built-in ones are in `builtin.py`.

    @register_reward("short")
    def short(context: RewardContext) -> np.ndarray:
        return np.array([[-float(t.reasoning_tokens) for t in group] for group in context.thoughts])

A config weighs it by name, `terms: {short: 0.1}`, or without registration by its import path,
`terms: {"my_package.my_module:short": 0.1}`. A reward that reads `RewardContext.nothink` must be
registered, with `needs_nothink=True`.
"""

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TypeAlias, TypeVar

import numpy as np
from jaxtyping import Float

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, DataError, T1Error
from t1_jax.generate import Thought
from t1_jax.train.data import TrainingRecord
from t1_jax.train.rewards.outcome import RetrievalOutcome
from t1_jax.train.rewards.user_code import (
    check_signature,
    describe_error,
    import_function,
    place_of_function,
)

GAIN_MEASURES = ("log_rank", "ndcg", "gap")


@dataclass(frozen=True, kw_only=True)
class RewardOptions:
    """Settings of the built-in rewards.

    Attributes:
        ndcg_k: rank cutoff of "ndcg".
        length_target: reasoning tokens up to which "length" is 1; it is 0 from twice as many on.
            None is half of `max_thought_tokens`.
        repetition_ngram: n of the n-grams that "repetition" and "copying" compare.
        gain_of: reward whose difference to no thought "gain" is: "log_rank", "ndcg" or "gap".

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
    """P queries with G thoughts each, and what the thoughts retrieved: the argument of a reward.

    All rewards read the same arrays, which are read-only: copy one before you change it.

    Attributes:
        thoughts: P groups of G thoughts.
        records: the P queries.
        outcome: ranks and scores of the positives for each thought.
        nothink: the same for the query embedded without a thought, [P, 1, R]; None unless a reward
            needs it (`RewardConfig.needs_nothink`).
        max_thought_tokens: most reasoning tokens of a thought.
        special_ids: ids of the tokenizer's special tokens; a thought of special tokens alone counts
            as empty.
        options: settings of the built-in rewards; `compute_rewards` sets those of its config.

    Raises:
        DataError: counts of queries or thoughts that do not agree.
    """

    thoughts: Sequence[Sequence[Thought]]
    records: Sequence[TrainingRecord]
    outcome: RetrievalOutcome
    nothink: RetrievalOutcome | None = None
    max_thought_tokens: int
    special_ids: frozenset[int] = frozenset()
    options: RewardOptions = field(default_factory=RewardOptions)

    def __post_init__(self) -> None:
        queries, thoughts = self.outcome.shape
        counts = {len(group) for group in self.thoughts}
        if len(self.thoughts) != queries or len(self.records) != queries or counts != {thoughts}:
            raise DataError(
                f"an outcome of {queries} queries with {thoughts} thoughts each, but "
                f"{len(self.records)} records and {len(self.thoughts)} groups of "
                f"{sorted(counts)} thoughts"
            )
        if self.nothink is not None and self.nothink.shape != (queries, 1):
            raise DataError(
                f"the outcome without a thought must be of ({queries}, 1), got {self.nothink.shape}"
            )

    @property
    def shape(self) -> tuple[int, int]:
        """(P, G): the shape of every reward."""
        return self.outcome.shape

    def read_only(self) -> "RewardContext":
        """The same context with read-only views of its arrays."""
        return replace(
            self,
            thoughts=tuple(tuple(map(_read_only, group)) for group in self.thoughts),
            outcome=_read_only(self.outcome),
            nothink=None if self.nothink is None else _read_only(self.nothink),
        )


_Dataclass = TypeVar("_Dataclass", Thought, RetrievalOutcome)


def _read_only(value: _Dataclass) -> _Dataclass:
    """A copy of a dataclass with read-only views of its arrays."""
    views = {
        name: array.view() for name, array in vars(value).items() if isinstance(array, np.ndarray)
    }
    for view in views.values():
        view.flags.writeable = False
    return replace(value, **views)


RewardFunction: TypeAlias = Callable[[RewardContext], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Registered:
    function: RewardFunction
    needs_nothink: bool


_REGISTRY: dict[str, _Registered] = {}


def register_reward(
    name: str, *, needs_nothink: bool = False
) -> Callable[[RewardFunction], RewardFunction]:
    """A decorator that registers a reward under a name; it returns the function unchanged.

    A function may be registered again, as when a notebook's cell is run twice. `needs_nothink` says
    that the reward reads `RewardContext.nothink`.

    Raises:
        ConfigError: the name has a colon or belongs to another function, or the function cannot be
            called with one argument.
    """
    if ":" in name:
        raise ConfigError(f"the reward name {name!r} has a colon, which marks an import path")

    def register(function: RewardFunction) -> RewardFunction:
        try:
            check_signature(function)
        except ConfigError as error:
            raise ConfigError(f"the reward {name!r}: {error.message}", hint=error.hint) from error
        known = _REGISTRY.get(name)
        if known is not None and _import_path(known.function) != _import_path(function):
            raise ConfigError(
                f"the reward {name!r} is registered already, as {_import_path(known.function)}",
                hint="choose another name",
            )
        _REGISTRY[name] = _Registered(function=function, needs_nothink=needs_nothink)
        return function

    return register


def reward_names() -> tuple[str, ...]:
    """Every registered name, the built-in ones first."""
    return tuple(_REGISTRY)


@dataclass(frozen=True, kw_only=True)
class RewardConfig(RewardOptions):
    """The rewards of a stage.

    Attributes:
        terms: reward -> weight. A reward is a registered name or an import path
            "package.module:function". Weight 0 leaves it out. Names in a file or an override are
            added to the defaults.

    Raises:
        ConfigError: an unknown name, a path without a function of one argument, a weight that is
            not finite, or no term with a weight.
    """

    terms: dict[str, float] = field(
        default_factory=lambda: {"format": 0.5, "length": 0.2, "log_rank": 1.0, "gap": 0.5}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.terms.items():
            if not math.isfinite(weight):
                raise ConfigError(f"the weight of the reward {name!r} is {weight}")
            _function_of(name)  # a wrong name is rejected now, not after a rollout
        if not self.weights:
            raise ConfigError("no reward has a weight, so there is nothing to learn")

    @property
    def weights(self) -> Mapping[str, float]:
        """The terms with a weight."""
        return {name: weight for name, weight in self.terms.items() if weight != 0}

    @property
    def needs_nothink(self) -> bool:
        """Whether the queries must also be embedded without a thought."""
        functions = [_function_of(name) for name in self.weights]
        return any(
            known.needs_nothink and known.function in functions for known in _REGISTRY.values()
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rewards:
    """The rewards of P queries with G thoughts each.

    Attributes:
        total: the weighted sum.
        terms: each term, unweighted.
    """

    total: Float[np.ndarray, "P G"]
    terms: Mapping[str, Float[np.ndarray, "P G"]]


def compute_rewards(context: RewardContext, config: RewardConfig) -> Rewards:
    """Σ_term weight · term; every term is checked.

    Raises:
        T1Error: a term raises, or returns anything but finite floats [P, G]; the error names the
            term with its file and line, or the query.
    """
    context = replace(context, options=config).read_only()
    terms = {name: _checked(name, _call(name, context), context) for name in config.weights}
    total = sum((weight * terms[name] for name, weight in config.weights.items()), start=0.0)
    return Rewards(total=np.asarray(total, dtype=np.float64), terms=terms)


def _function_of(name: str) -> RewardFunction:
    if ":" in name:
        try:
            return import_function(name)
        except ConfigError as error:
            raise ConfigError(f"the reward {name!r}: {error.message}", hint=error.hint) from error
    if name not in _REGISTRY:
        raise ConfigError(
            f"unknown reward {name!r}",
            hint=suggestion(name, _REGISTRY)
            + " (name a function of your own by its import path, package.module:function)",
        )
    return _REGISTRY[name].function


def _call(name: str, context: RewardContext) -> object:
    """What a term returned; an exception is reported with its name, file and line."""
    function = _function_of(name)
    try:
        return function(context)
    except T1Error:
        raise
    except Exception as error:
        raise T1Error(
            f"the reward {name!r} raised {describe_error(error)}",
            hint="a reward must return a number for every thought, also for an empty one, and may "
            "not change the arrays it is given",
        ) from error


def _checked(name: str, values: object, context: RewardContext) -> Float[np.ndarray, "P G"]:
    """What a term returned, if it is finite floats [P, G]."""
    where = f"the reward {name!r} ({place_of_function(_function_of(name))})"
    if not isinstance(values, np.ndarray):
        raise T1Error(f"{where} returned {type(values).__name__}", hint="return a numpy array")
    if values.shape != context.shape or not np.issubdtype(values.dtype, np.floating):
        queries, thoughts = context.shape
        raise T1Error(
            f"{where} returned {values.dtype}{list(values.shape)}, "
            f"not float[{queries}, {thoughts}]",
            hint=f"return a number for each of {thoughts} thoughts of {queries} queries, as float",
        )
    for query, sample in np.argwhere(~np.isfinite(values)).tolist():
        raise T1Error(
            f"{where} returned {values[query, sample]} for thought {sample} of query "
            f"{context.records[query].query_id!r}",
            hint="return a finite number for every thought, also for an empty one",
        )
    return values.astype(np.float64)


def _import_path(function: RewardFunction) -> str:
    if inspect.isroutine(function):
        return f"{function.__module__}:{function.__qualname__}"
    return repr(function)  # such as a functools.partial
