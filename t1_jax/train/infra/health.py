"""Watching a run's metrics: what is wrong is warned of once, and a broken run stops with a word."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from t1_jax.errors import ConfigError, T1Error


class TrainingAborted(T1Error):  # noqa: N818 - it names a state of the run, as health reports do
    """A run whose metrics say that going on would waste time; its checkpoints still stand.

    Args:
        message: see `T1Error`.
        hint: likewise.
        is_sound: whether the weights are still sound, so that they are worth saving: only updates
            that were skipped were bad.
    """

    def __init__(self, message: str, *, hint: str | None = None, is_sound: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_sound = is_sound


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Where a metric becomes a fault. Null turns a check off; so does a metric never logged.

    Attributes:
        patience: checks in a row that must be bad before the run stops; a loss that is not finite
            although its gradient is stops it at once.
        max_skipped_updates: an update whose gradient is not finite is skipped, and leaves weights
            and moments as they were; after more than so many in a row the run is saved and stops.
        truncated_frac: share of thoughts cut off at their budget, above which it is a fault.
        missing_emb_frac: share of thoughts in which `<emb_token>` was not sampled; likewise.
        nonzero_std_frac: share of groups whose rewards differ at all, below which it is a fault.
        log_prob_gap: mean |log-probability of the sampler - of the trainer| of a sampled token in
            nats, above which they are no longer one policy; 0.015 is usual, 0.2 is what weights
            left stale give (huggingface/trl#5312).
        log_prob_gap_warning: of that gap, above which it is warned of but never stopped.
        entropy: of the policy's next token in nats, below which it has collapsed.
        mean_cosine: of vectors of different queries, above which they have collapsed.
    """

    patience: int = 10
    max_skipped_updates: int = 5
    truncated_frac: float | None = 0.8
    missing_emb_frac: float | None = 0.8
    nonzero_std_frac: float | None = 0.1
    log_prob_gap: float | None = 0.2
    log_prob_gap_warning: float | None = 0.05
    entropy: float | None = 0.02
    mean_cosine: float | None = 0.98

    def __post_init__(self) -> None:
        if self.patience < 1:
            raise ConfigError(f"patience must be at least 1, got {self.patience}")
        if self.max_skipped_updates < 0:
            raise ConfigError(
                f"max_skipped_updates must be at least 0, got {self.max_skipped_updates}"
            )
        for name in ("truncated_frac", "missing_emb_frac", "nonzero_std_frac", "mean_cosine"):
            value = self.__dict__[name]
            if value is not None and not 0 <= value <= 1:
                raise ConfigError(f"{name} is a share from 0 to 1, got {value}")
        for name in ("log_prob_gap", "log_prob_gap_warning", "entropy"):
            value = self.__dict__[name]
            if value is not None and value < 0:
                raise ConfigError(f"{name} must be 0 or more, got {value}")


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """One check: `field` of the config bounds `metric` on one side."""

    field: str
    metric: str
    bad: Literal["above", "below"]
    word: str
    hint: str
    stops: bool = True

    @property
    def key(self) -> str:
        """Of the count of bad checks."""
        return f"{self.field}: {self.metric}"


_GAP_WORD = "sampler and trainer give the same tokens different log-probabilities"
_LIMITS = (
    _Limit(
        field="truncated_frac",
        metric="rollout/truncated_frac",
        bad="above",
        word="most thoughts are cut off at their budget",
        hint="raise the thought budget, imitate given thoughts too (losses.sft), reward short "
        "thoughts, or train stage 1 for longer",
    ),
    _Limit(
        field="truncated_frac",
        metric="validation/truncated_frac",
        bad="above",
        word="most thoughts about validation queries are cut off at their budget",
        hint="",
        stops=False,
    ),
    _Limit(
        field="missing_emb_frac",
        metric="rollout/missing_emb_frac",
        bad="above",
        word="most thoughts end without <emb_token>",
        hint="train stage 1 for longer, or give the format reward more weight",
    ),
    _Limit(
        field="nonzero_std_frac",
        metric="rollout/nonzero_std_frac",
        bad="below",
        word="nearly all groups have rewards without variance, so nothing is learnt",
        hint="use a continuous reward (gap, gain), harder pools, more thoughts per prompt or a "
        "higher temperature",
    ),
    _Limit(
        field="log_prob_gap",
        metric="rollout/log_prob_gap",
        bad="above",
        word=_GAP_WORD,
        hint="make the rollout's weights, temperature and dtype those of the trainer, or take "
        "fewer updates per rollout",
    ),
    _Limit(
        field="log_prob_gap_warning",
        metric="rollout/log_prob_gap",
        bad="above",
        word=_GAP_WORD,
        hint="",
        stops=False,
    ),
    _Limit(
        field="entropy",
        metric="rollout/entropy",
        bad="below",
        word="the policy's entropy has collapsed: it always thinks the same",
        hint="lower the learning rate, raise the temperature, or add an entropy bonus "
        "(policy.entropy_coef) or a KL term (policy.beta)",
    ),
    _Limit(
        field="mean_cosine",
        metric="embedding/mean_cosine",
        bad="above",
        word="the vectors of different queries have collapsed into one",
        hint="lower the learning rate, raise the contrastive loss's weight or lower its "
        "temperature",
    ),
)


class Health:
    """Checks the metrics of each step; remembers how long each has been bad.

    Args:
        config: the limits.
        state: what `state()` gave when the run was saved.
    """

    def __init__(self, config: HealthConfig, state: Mapping[str, int] | None = None) -> None:
        self.config = config
        self._bad = dict(state or {})

    def state(self) -> dict[str, int]:
        """Bad checks in a row by limit, as JSON for a checkpoint."""
        return dict(self._bad)

    def check(self, step: int, metrics: Mapping[str, float | int]) -> tuple[str, ...]:
        """Warnings, each said when a metric turns bad and not again until it has recovered.

        A skipped update is told every time.

        Raises:
            TrainingAborted: too many updates were skipped, a loss is not finite although its
                gradient is, or a metric has been bad for `patience` checks.
        """
        return (
            *self._skipped(step, metrics),
            *(
                warning
                for limit in _LIMITS
                if limit.metric in metrics
                for warning in self._checked(limit, step, metrics[limit.metric])
            ),
        )

    def _skipped(self, step: int, metrics: Mapping[str, float | int]) -> tuple[str, ...]:
        """What there is to say of numbers that are not finite."""
        if math.isfinite(metrics.get("grad_norm", 0.0)):
            for name, value in metrics.items():
                if name.split("/")[0] == "loss" and not math.isfinite(value):
                    raise TrainingAborted(
                        f"step {step}: {name} is {value}",
                        hint="lower the learning rate or clip gradients harder, check dtypes and "
                        "data, and resume from the last checkpoint",
                    )
            return ()
        count, most = int(metrics["skipped_in_a_row"]), self.config.max_skipped_updates
        if count > most:
            updates = "1 update" if count == 1 else f"{count} updates in a row"
            raise TrainingAborted(
                f"step {step}: the gradient of {updates} was not finite, and "
                f"health.max_skipped_updates is {most}; the weights are those before",
                hint="lower the learning rate, clip gradients harder, or compute in float32 "
                "(model.dtype), with resume=true; the same command goes on after these batches",
                is_sound=True,
            )
        return (
            f"step {step}: the gradient is not finite, so the update was skipped ({count} in a "
            f"row; the run stops after {most})",
        )

    def _checked(self, limit: _Limit, step: int, value: float) -> tuple[str, ...]:
        bound: float | None = self.config.__dict__[limit.field]
        if bound is None or not _is_bad(limit, value, bound):
            self._bad.pop(limit.key, None)
            return ()
        count = self._bad[limit.key] = self._bad.get(limit.key, 0) + 1
        told = f"{limit.word}: {limit.metric} is {value:.3g} (bad {limit.bad} {bound:g})"
        if limit.stops and count >= self.config.patience:
            checks = "check" if count == 1 else "checks"
            raise TrainingAborted(f"step {step}: {told} for {count} {checks}", hint=limit.hint)
        return (f"step {step}: {told}",) if count == 1 else ()


def _is_bad(limit: _Limit, value: float, bound: float) -> bool:
    if math.isnan(value):
        return True
    return value > bound if limit.bad == "above" else value < bound
