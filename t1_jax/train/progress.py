"""What a run has come to, beside its weights: what a checkpoint's JSON holds of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from t1_jax.train.run import Health, HealthConfig, Meter, total_peak_flops


@dataclass(kw_only=True)
class Progress:
    """Counts and scores of a run so far.

    Attributes:
        health: what has been bad, and for how long.
        meter: tokens so far, and the speed.
        steps: done, by stage.
        validations: what the last one of each stage measured.
        best: the best validation score and its step.
        owes_validation: a stop has cut one short; it is made up for when the run goes on.
    """

    health: Health
    meter: Meter
    steps: dict[str, int] = field(default_factory=dict)
    validations: dict[str, dict[str, float]] = field(default_factory=dict)
    best: tuple[float, int] | None = None
    owes_validation: bool = False

    @classmethod
    def new(cls, config: HealthConfig) -> "Progress":
        """Of a run that begins."""
        return cls(health=Health(config), meter=Meter(total_peak_flops()))

    @classmethod
    def restored(cls, config: HealthConfig, meta: Mapping[str, Any]) -> "Progress":
        """As it was when `meta` was taken."""
        best = meta["best"]
        return cls(
            health=Health(config, meta["health"]),
            meter=Meter(total_peak_flops(), tokens=int(meta["tokens"])),
            steps=dict(meta["steps"]),
            validations={name: dict(found) for name, found in meta["validations"].items()},
            best=None if best is None else (best[0], best[1]),
            owes_validation=meta["validation_owed"],
        )

    def meta(self) -> dict[str, Any]:
        """All of it as JSON."""
        return {
            "validation_owed": self.owes_validation,
            "health": self.health.state(),
            "tokens": self.meter.tokens,
            "steps": self.steps,
            "best": self.best,
            "validations": self.validations,
        }

    def beats_best(self, score: float, step: int) -> bool:
        """Whether this is the best score so far, which it then is."""
        if self.best is not None and score <= self.best[0]:
            return False
        self.best = (score, step)
        return True
