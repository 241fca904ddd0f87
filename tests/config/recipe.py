"""A config with one field of every kind that the package's configs use."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from t1_jax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class Optimizer:
    """How the weights move.

    Attributes:
        rate: learning rate, per step.
        schedule: how the rate changes; `cosine` falls to zero
            at the last step.
        betas: decay of the two moments.
    """

    rate: float = 1e-4
    schedule: Literal["constant", "cosine"] = "cosine"
    betas: tuple[float, ...] = (0.9, 0.95)

    def __post_init__(self) -> None:
        if self.rate <= 0:
            raise ConfigError(f"rate must be above 0, got {self.rate}", hint="raise it")


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One part of the training.

    Attributes:
        optimizer: how the weights move.
        warm_up: another optimizer for the first steps.
        rate_factor: multiplies every rate.
    """

    optimizer: Optimizer = Optimizer(rate=2e-5)
    warm_up: Optimizer | None = None
    rate_factor: float = 1.0


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What to train.

    Attributes:
        name: of the run.
        optimizer: how the weights move.
        warm_up: another optimizer for the first steps.
        steps: how many; None for a whole epoch.
        weights: folder of the model.
        losses: factor of each loss.
        note: for people.
        stages: by name, in the order in which they run.
    """

    name: str
    optimizer: Optimizer = Optimizer(rate=1e-5)
    warm_up: Optimizer | None = None
    steps: int | None = None
    weights: Path = Path("model")
    losses: dict[str, float] = field(default_factory=dict)
    note: str | None = None
    stages: dict[str, Stage] = field(default_factory=dict)
