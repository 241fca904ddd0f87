"""Rewards by name, and their weighted sum.

A user's reward is a function of a `RewardContext` that returns a float array [P, G]:

    @register_reward("short")
    def short(context: RewardContext) -> np.ndarray:
        return np.array([[-float(t.reasoning_tokens) for t in group] for group in context.thoughts])

A config then weighs it by name, `terms: {short: 0.1}`; or, without a line of registration, by the
place where Python finds it, `terms: {"my_package.my_module:short": 0.1}`. One that compares with no
thought is registered in either case, with `needs_nothink=True`.

Arrays of a context are read-only, since all terms read the same ones: copy before you change one.
"""

import inspect
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeAlias

import numpy as np
from jaxtyping import Float

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, T1Error
from t1_jax.train.rewards.context import RewardContext, RewardOptions
from t1_jax.train.rewards.user_code import (
    check_signature,
    describe_error,
    import_function,
    place_of_function,
)

RewardFunction: TypeAlias = Callable[[RewardContext], np.ndarray]


@dataclass(frozen=True, kw_only=True)
class _Registered:
    function: RewardFunction
    needs_nothink: bool


_REGISTRY: dict[str, _Registered] = {}


def register_reward(
    name: str, *, needs_nothink: bool = False
) -> Callable[[RewardFunction], RewardFunction]:
    """A decorator that makes a function known under a name; the function itself stays as it is.

    A function may be registered again in place of itself, as when a notebook's cell is run twice.

    Args:
        name: what configs call it; no colon, which marks a dotted path.
        needs_nothink: whether it reads `RewardContext.nothink`.

    Raises:
        ConfigError: the name has a colon or belongs to another function, or the function cannot be
            called with one argument.
    """
    if ":" in name:
        raise ConfigError(f"the reward name {name!r} has a colon, which marks a dotted path")

    def register(function: RewardFunction) -> RewardFunction:
        try:
            check_signature(function)
        except ConfigError as error:
            raise ConfigError(f"the reward {name!r}: {error.message}", hint=error.hint) from error
        known = _REGISTRY.get(name)
        if known is not None and _place(known.function) != _place(function):
            raise ConfigError(
                f"the reward {name!r} is registered already, as {_place(known.function)}",
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
    """What a thought is paid for.

    Attributes:
        terms: reward -> weight. A reward is a registered name or a dotted path
            "package.module:function". Weight 0 leaves it out. Further names in a file or an
            override join the defaults.

    Raises:
        ConfigError: an unknown name, a path that leads to no function of one argument, a weight
            that is no number, or no term left.
    """

    terms: dict[str, float] = field(
        default_factory=lambda: {"format": 0.5, "length": 0.2, "log_rank": 1.0, "gap": 0.5}
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, weight in self.terms.items():
            if not math.isfinite(weight):
                raise ConfigError(f"the weight of the reward {name!r} is {weight}")
            _function_of(name)  # a wrong name is refused now, not after a rollout
        if not self.weights:
            raise ConfigError("no reward has a weight, so there is nothing to learn")

    @property
    def weights(self) -> Mapping[str, float]:
        """The terms that count."""
        return {name: weight for name, weight in self.terms.items() if weight != 0}

    @property
    def needs_nothink(self) -> bool:
        """Whether the queries must also be encoded without a thought."""
        functions = [_function_of(name) for name in self.weights]
        return any(
            known.needs_nothink and known.function in functions for known in _REGISTRY.values()
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class Rewards:
    """What each thought earned.

    Attributes:
        total: the weighted sum.
        terms: each term before its weight.
    """

    total: Float[np.ndarray, "P G"]
    terms: Mapping[str, Float[np.ndarray, "P G"]]


def compute_rewards(context: RewardContext, config: RewardConfig) -> Rewards:
    """Σ_term weight · term, every term checked.

    Raises:
        T1Error: a term raises, or returns something else than finite floats [P, G]; the error
            names the term with its file and line, or the query.
    """
    context = replace(context, options=config).read_only()
    terms = {name: _checked(name, _called(name, context), context) for name in config.weights}
    total = sum((weight * terms[name] for name, weight in config.weights.items()), start=0.0)
    return Rewards(total=np.asarray(total, dtype=np.float64), terms=terms)


def _function_of(name: str) -> RewardFunction:
    if ":" in name:
        return _imported(name)
    if name not in _REGISTRY:
        raise ConfigError(
            f"unknown reward {name!r}",
            hint=suggestion(name, _REGISTRY)
            + " (a function of your own is named by its place, package.module:function)",
        )
    return _REGISTRY[name].function


def _imported(path: str) -> RewardFunction:
    """The function at package.module:function."""
    try:
        return import_function(path)
    except ConfigError as error:
        raise ConfigError(f"the reward {path!r}: {error.message}", hint=error.hint) from error


def _called(name: str, context: RewardContext) -> object:
    """What a term returned; what it raised is told with its name, file and line."""
    function = _function_of(name)
    try:
        return function(context)
    except T1Error:
        raise
    except Exception as error:
        raise T1Error(
            f"the reward {name!r} raised {describe_error(error)}",
            hint="a reward must give a number for every thought, also for an empty one, and may "
            "not change the arrays it is given",
        ) from error


def _checked(name: str, found: object, context: RewardContext) -> Float[np.ndarray, "P G"]:
    """What a term returned, if it is what a term must return."""
    where = f"the reward {name!r} ({place_of_function(_function_of(name))})"
    if not isinstance(found, np.ndarray):
        raise T1Error(f"{where} returned {type(found).__name__}", hint="return a numpy array")
    if found.shape != context.shape or not np.issubdtype(found.dtype, np.floating):
        prompts, thoughts = context.shape
        raise T1Error(
            f"{where} returned {found.dtype}{list(found.shape)}, not float[{prompts}, {thoughts}]",
            hint=f"return a number for each of {thoughts} thoughts of {prompts} queries, as float",
        )
    for prompt, sample in np.argwhere(~np.isfinite(found)).tolist():
        raise T1Error(
            f"{where} gave {found[prompt, sample]} for thought {sample} of query "
            f"{context.records[prompt].query_id!r}",
            hint="return a finite number for every thought, also for an empty one",
        )
    return found.astype(np.float64)


def _place(function: RewardFunction) -> str:
    if inspect.isroutine(function):
        return f"{function.__module__}:{function.__qualname__}"
    return repr(function)  # such as a functools.partial
