"""Limits on the metrics of a run: a bad metric is warned of once, and a broken run is stopped."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from t1_jax.errors import ConfigError, T1Error


class TrainingAborted(T1Error):  # noqa: N818 - a state of the run
    """The metrics show that the run is broken; its checkpoints remain.

    `is_sound` says that the weights are worth saving, since all bad updates were skipped.
    """

    def __init__(self, message: str, *, hint: str | None = None, is_sound: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.is_sound = is_sound


@dataclass(frozen=True, kw_only=True)
class HealthConfig:
    """Limits on metrics. Null turns a check off; so does a metric that is never logged.

    Attributes:
        patience: bad checks in a row after which the run stops; a non-finite loss with a finite
            gradient stops it at once.
        max_skipped_updates: an update with a non-finite gradient is skipped and leaves weights and
            moments unchanged; after more than this many in a row the run is saved and stops.
        truncated_frac: maximum fraction of thoughts truncated at their token limit.
        missing_emb_frac: maximum fraction of thoughts in which `<emb_token>` was not sampled.
        nonzero_std_frac: minimum fraction of groups whose rewards differ.
        log_prob_gap: maximum mean |sampler's - trainer's log-probability| of a sampled token in
            nats; 0.015 is usual, 0.2 is a sign of stale weights (huggingface/trl#5312).
        log_prob_gap_warning: value of that gap that is warned of but never stops the run.
        entropy: minimum entropy of the policy's next token in nats.
        mean_cosine: maximum mean cosine similarity of embeddings of different queries.
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
                raise ConfigError(f"{name} must be from 0 to 1, got {value}")
        for name in ("log_prob_gap", "log_prob_gap_warning", "entropy"):
            value = self.__dict__[name]
            if value is not None and value < 0:
                raise ConfigError(f"{name} must be 0 or more, got {value}")


@dataclass(frozen=True, kw_only=True)
class _Limit:
    """One check: the config's `field` bounds `metric` on one side."""

    field: str
    metric: str
    bad: Literal["above", "below"]
    problem: str
    hint: str
    stops: bool = True

    @property
    def key(self) -> str:
        """Key of the count of bad checks."""
        return f"{self.field}: {self.metric}"


_GAP_PROBLEM = "sampler and trainer give the same tokens different log-probabilities"
_LIMITS = (
    _Limit(
        field="truncated_frac",
        metric="rollout/truncated_frac",
        bad="above",
        problem="most thoughts are truncated",
        hint="raise rollout.max_thought_tokens, imitate reference thoughts (losses.sft), reward "
        "short thoughts, or train stage 1 for longer",
    ),
    _Limit(
        field="truncated_frac",
        metric="validation/truncated_frac",
        bad="above",
        problem="most thoughts for validation queries are truncated",
        hint="",
        stops=False,
    ),
    _Limit(
        field="missing_emb_frac",
        metric="rollout/missing_emb_frac",
        bad="above",
        problem="most thoughts end without <emb_token>",
        hint="train stage 1 for longer, or give the format reward more weight",
    ),
    _Limit(
        field="nonzero_std_frac",
        metric="rollout/nonzero_std_frac",
        bad="below",
        problem="nearly all groups have rewards without variance, so the policy loss is 0",
        hint="use a continuous reward (gap, gain), harder pools, more thoughts per prompt or a "
        "higher temperature",
    ),
    _Limit(
        field="log_prob_gap",
        metric="rollout/log_prob_gap",
        bad="above",
        problem=_GAP_PROBLEM,
        hint="make the rollout's weights, temperature and dtype those of the trainer, or take "
        "fewer updates per rollout",
    ),
    _Limit(
        field="log_prob_gap_warning",
        metric="rollout/log_prob_gap",
        bad="above",
        problem=_GAP_PROBLEM,
        hint="",
        stops=False,
    ),
    _Limit(
        field="entropy",
        metric="rollout/entropy",
        bad="below",
        problem="the policy's entropy has collapsed: its thoughts are all alike",
        hint="lower the learning rate, raise the temperature, or add an entropy bonus "
        "(policy.entropy_coef) or a KL term (policy.beta)",
    ),
    _Limit(
        field="mean_cosine",
        metric="embedding/mean_cosine",
        bad="above",
        problem="the embeddings of different queries have collapsed",
        hint="lower the learning rate, raise the contrastive loss's weight or lower its "
        "temperature",
    ),
)


class Health:
    """Checks the metrics of each step, and counts for how many checks each has been bad."""

    def __init__(self, config: HealthConfig) -> None:
        self.config = config
        self._bad: dict[str, int] = {}

    def state_dict(self) -> dict[str, int]:
        """Limit -> bad checks in a row, as JSON."""
        return dict(self._bad)

    def load_state_dict(self, state: Mapping[str, int]) -> None:
        """Restores what `state_dict` returned."""
        self._bad = dict(state)

    def check(self, step: int, metrics: Mapping[str, float | int]) -> tuple[str, ...]:
        """Warnings about metrics that have become bad; a metric that stays bad is not repeated.

        Every skipped update is warned of.

        Raises:
            TrainingAborted: too many updates were skipped, a loss is not finite although its
                gradient is, or a metric was bad for `patience` checks in a row.
        """
        return (
            *self._check_finite(step, metrics),
            *(
                warning
                for limit in _LIMITS
                if limit.metric in metrics
                for warning in self._check_limit(limit, step, metrics[limit.metric])
            ),
        )

    def _check_finite(self, step: int, metrics: Mapping[str, float | int]) -> tuple[str, ...]:
        if math.isfinite(metrics.get("grad_norm", 0.0)):
            for name, value in metrics.items():
                if name.split("/")[0] == "loss" and not math.isfinite(value):
                    raise TrainingAborted(
                        f"step {step}: {name} is {value}",
                        hint="lower the learning rate or clip gradients harder, check dtypes and "
                        "data, and resume from the last checkpoint",
                    )
            return ()
        count, limit = int(metrics["skipped_in_a_row"]), self.config.max_skipped_updates
        if count > limit:
            updates = "1 update" if count == 1 else f"{count} updates in a row"
            raise TrainingAborted(
                f"step {step}: the gradient of {updates} was not finite, and "
                f"health.max_skipped_updates is {limit}; the weights are unchanged",
                hint="lower the learning rate, clip gradients harder, or compute in float32 "
                "(model.dtype), with resume=true; the same command resumes after these batches",
                is_sound=True,
            )
        return (
            f"step {step}: the gradient is not finite, so the update was skipped ({count} in a "
            f"row; the run stops after {limit})",
        )

    def _check_limit(self, limit: _Limit, step: int, value: float) -> tuple[str, ...]:
        bound: float | None = self.config.__dict__[limit.field]
        if bound is None or not _is_bad(limit, value, bound):
            self._bad.pop(limit.key, None)
            return ()
        count = self._bad[limit.key] = self._bad.get(limit.key, 0) + 1
        message = f"{limit.problem}: {limit.metric} is {value:.3g} (bad {limit.bad} {bound:g})"
        if limit.stops and count >= self.config.patience:
            checks = "check" if count == 1 else "checks"
            raise TrainingAborted(f"step {step}: {message} for {count} {checks}", hint=limit.hint)
        return (f"step {step}: {message}",) if count == 1 else ()


def _is_bad(limit: _Limit, value: float, bound: float) -> bool:
    if math.isnan(value):
        return True
    return value > bound if limit.bad == "above" else value < bound
