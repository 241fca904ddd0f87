"""The policy loss of stage 3: GRPO and its relatives, one token at a time.

For completion token t of thought i, with π the policy in training, π_old the policy before the
updates of a rollout, μ the sampler, π_ref the reference policy and A the advantage, the loss is

    ℓ_it = −w_it J_it + β k_it − c_H H_it
    J_it = min(ρ_it A_i, clip(ρ_it, 1 − ε_lo, 1 + ε_hi) A_i),    ρ_it = π(o_it)/π_old(o_it)
    w_it = sg[min(r_it, C)] or sg[r_it where 1/C ≤ r_it ≤ C, else 0],    r_it = π_old(o_it)/μ(o_it)
    H_it = −Σ_v π(v) log π(v), over the vocabulary at token t

and the step's loss is Σ_it weight_i ℓ_it. The weight of a thought includes the denominators of the
whole step (`token_weights`), so that the losses of micro-batches and devices add up.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError

_MAX_LOG_RATIO = 20.0
"""Log-ratios are clipped here, beyond every clip range, so that no exponential overflows."""


@dataclass(frozen=True, kw_only=True)
class PolicyRule:
    """A `PolicyConfig` whose fields are all set; see there."""

    clip_low: float = 0.2
    clip_high: float = 0.2
    dual_clip: float | None = None
    kl: str = "k3"
    beta: float = 0.0
    aggregation: str = "token_mean"
    importance_level: str = "token"
    sampler_is_cap: float | None = 2.0
    sampler_is_mode: str = "token_truncate"
    use_bias_correction_kl: bool = False
    entropy_coef: float = 0.0
    mask_truncated_completions: bool = False


PRESETS: Mapping[str, PolicyRule] = MappingProxyType(
    {
        "grpo": PolicyRule(beta=0.001),
        "dr_grpo": PolicyRule(aggregation="seq_mean_token_sum_norm"),
        "dapo": PolicyRule(clip_high=0.28),
        "gspo": PolicyRule(
            clip_low=3e-4,
            clip_high=4e-4,
            aggregation="seq_mean_token_mean",
            importance_level="sequence",
        ),
    }
)
"""Named losses, as differences from ε = 0.2, token ratios, k3, token mean, β = 0."""

_KNOWN = {
    "loss": tuple(PRESETS),
    "kl": ("k1", "k3"),
    "aggregation": ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum_norm"),
    "importance_level": ("token", "sequence"),
    "sampler_is_mode": ("token_truncate", "token_mask"),
}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """A named policy loss, and fields that differ from it. None takes the value of the preset.

    Attributes:
        loss: "grpo": clip 0.2/0.2, β 0.001 with k3, mean over all tokens (arXiv:2402.03300 averages
            each thought first, so that a token weighs less in a longer one; `aggregation:
            seq_mean_token_mean` does that). "dr_grpo" (arXiv:2503.20783): sums over the largest
            length, no KL; it goes with advantages of kind "dr_grpo". "dapo" (arXiv:2503.14476):
            clip 0.2/0.28, mean over all tokens, no KL. "gspo" (arXiv:2507.18071): one ratio a
            thought, clip 3e-4/4e-4, mean over each thought, no KL.
        clip_low: ε_lo.
        clip_high: ε_hi; above ε_lo it is DAPO's clip-higher.
        dual_clip: c > 1: where A < 0, J is at least c·A, so that a token with a very large ratio
            cannot dominate the step (arXiv:1912.09729). No preset has one.
        kl: estimator of the KL term. With u = log π_ref − log π, "k1" is −u and "k3" is
            e^u − u − 1. On the policy's own samples the gradient of k1 has expectation zero and
            that of k3 is the gradient of KL(π_ref‖π); see `use_bias_correction_kl`.
        beta: weight of the KL term; at 0 no reference is needed.
        aggregation: how tokens are averaged, see `token_weights`.
        importance_level: "token": ρ is a ratio per token; "sequence": the geometric mean over the
            thought (GSPO), so that all tokens of a thought have the same J, which
            `aggregation: seq_mean_token_mean` counts once.
        sampler_is_cap: C of the importance weight w between sampler and trainer, 2 as in verl; None
            applies no weight.
        sampler_is_mode: "token_truncate": w = min(r, C), truncated importance sampling. It keeps
            every token, with a bias where r > C. "token_mask": w = r where 1/C ≤ r ≤ C, else 0,
            masked importance sampling as in IcePop and TRL: tokens on which sampler and trainer
            disagree are left out of J, but not out of the KL term and the denominators.
        use_bias_correction_kl: multiplies the KL term by the token's own ratio. With k1 and k3
            ρ_it k_it is an unbiased estimate of KL(π‖π_ref) and its gradient, also in later updates
            of a rollout (DeepSeek-V3.2, arXiv:2512.02556 eq. 7). It needs β above 0.
        entropy_coef: c_H, the weight of an entropy bonus at the sampling temperature
            (arXiv:1602.01783); 0 is none.
        mask_truncated_completions: DAPO's overlong filter (arXiv:2503.14476): truncated thoughts
            are left out of the loss and its denominators, but not out of their group's baseline.

    Raises:
        ConfigError: an unknown name, a number out of range, or an option that would do nothing.
    """

    loss: str = "grpo"
    clip_low: float | None = None
    clip_high: float | None = None
    dual_clip: float | None = None
    kl: str | None = None
    beta: float | None = None
    aggregation: str | None = None
    importance_level: str | None = None
    sampler_is_cap: float | None = 2.0
    sampler_is_mode: str = "token_truncate"
    use_bias_correction_kl: bool = False
    entropy_coef: float = 0.0
    mask_truncated_completions: bool = False

    def __post_init__(self) -> None:
        for name, known in _KNOWN.items():
            value = self.__dict__[name]
            if value is not None and value not in known:
                raise ConfigError(f"unknown {name} {value!r}", hint=suggestion(value, known))
        for name, good, range_ in (
            ("clip_low", lambda x: 0 < x <= 1, "above 0 and at most 1"),
            ("clip_high", lambda x: x > 0, "above 0"),
            ("dual_clip", lambda x: x > 1, "above 1"),
            ("beta", lambda x: x >= 0, "at least 0"),
            ("sampler_is_cap", lambda x: x >= 1, "at least 1"),
            ("entropy_coef", lambda x: x >= 0, "at least 0"),
        ):
            value = self.__dict__[name]
            if value is not None and not (good(value) and math.isfinite(value)):
                raise ConfigError(f"{name} must be finite and {range_}, got {value}")
        if self.sampler_is_mode == "token_mask" and self.sampler_is_cap is None:
            raise ConfigError(
                "sampler_is_mode=token_mask needs the ratio beyond which a token is masked",
                hint="set sampler_is_cap=2",
            )
        if self.use_bias_correction_kl and not self.resolved().beta:
            raise ConfigError(
                f"use_bias_correction_kl corrects the KL term, and {self.loss} has none: beta is 0",
                hint="set beta=0.001, or use_bias_correction_kl=false",
            )

    def resolved(self) -> PolicyRule:
        """The preset named by `loss`, updated with the fields that are set."""
        changes = {name: value for name, value in self.__dict__.items() if value is not None}
        del changes["loss"]
        return replace(PRESETS[self.loss], **{**changes, "sampler_is_cap": self.sampler_is_cap})


class PolicyTerms(NamedTuple):
    """The loss per token; all fields are 0 or False outside the mask.

    Attributes:
        loss: ℓ_it, unweighted.
        ratio: ρ_it.
        clipped: where J is clipped, so that it has no gradient.
        kl: k_it in nats, without β, with the ratio of `use_bias_correction_kl`.
        sampler_capped: where r is beyond its cap, so that w is truncated or 0.
    """

    loss: Float[Array, "B A"]
    ratio: Float[Array, "B A"]
    clipped: Bool[Array, "B A"]
    kl: Float[Array, "B A"]
    sampler_capped: Bool[Array, "B A"]


def token_weights(
    lengths: Int[np.ndarray, " T"], aggregation: str, max_tokens: int
) -> Float[np.ndarray, " T"]:
    """The weight of each token of each thought: the step's loss is Σ_it weight_i ℓ_it.

    With n_i completion tokens in thought i and B thoughts in the loss:

        token_mean               1/Σ_j n_j      DAPO, arXiv:2503.14476
        seq_mean_token_mean      1/(B n_i)      GRPO, arXiv:2402.03300
        seq_mean_token_sum_norm  1/(B L)        Dr.GRPO, arXiv:2503.20783

    Args:
        lengths: n_i of all thoughts of the step, on all devices; 0 for a thought outside the loss.
        aggregation: one of the three.
        max_tokens: L, most tokens of a thought.
    """
    counts = lengths.astype(np.float64)
    in_loss = counts > 0
    per_thought = {
        "token_mean": np.full_like(counts, counts.sum()),
        "seq_mean_token_mean": in_loss.sum() * counts,
        "seq_mean_token_sum_norm": np.full_like(counts, in_loss.sum() * max_tokens),
    }[aggregation]
    return np.divide(1.0, per_thought, out=np.zeros_like(counts), where=in_loss).astype(np.float32)


def policy_loss(
    logps: Float[Array, "B A"],
    *,
    old_logps: Float[Array, "B A"],
    sampler_logps: Float[Array, "B A"],
    ref_logps: Float[Array, "B A"] | None,
    entropy: Float[Array, "B A"] | None = None,
    advantages: Float[Array, "B A"],
    mask: Float[Array, "B A"] | Bool[Array, "B A"],
    continuation: Int[Array, "B A"],
    num_continuations: int,
    config: PolicyConfig,
) -> PolicyTerms:
    """ℓ_it of every completion token; the formula is at the top of this module.

    All log-probabilities are at the sampling temperature, in nats.

    Args:
        logps: log π. Only it and `entropy` have gradients.
        old_logps: log π_old. For the first update of a rollout pass `stop_gradient(logps)`: then
            ρ = 1 and the gradient is w A ∇log π.
        sampler_logps: log μ, as the sampler reported it.
        ref_logps: log π_ref; may be None where β is 0.
        entropy: H of the distribution that each token was sampled from, in nats; may be None where
            its coefficient is 0.
        advantages: A of the thought that a token belongs to.
        mask: which tokens are completion tokens of a thought in the loss; elsewhere the inputs may
            hold anything.
        continuation: index of the thought that a token belongs to, among those of its row.
        num_continuations: most thoughts in a row.
        config: the loss.

    Raises:
        ConfigError: β is above 0 and `ref_logps` is None, or likewise for the entropy.
    """
    rule = config.resolved()
    if rule.beta > 0 and ref_logps is None:
        raise ConfigError(
            f"beta={rule.beta} needs log-probabilities under the reference model",
            hint="load the reference, or set beta=0",
        )
    if rule.entropy_coef > 0 and entropy is None:
        raise ConfigError(f"entropy_coef={rule.entropy_coef} needs the entropy of each token")
    real = mask.astype(bool)
    advantages = jnp.where(real, jax.lax.stop_gradient(advantages), 0.0)
    token_log_ratio = _difference(logps, jax.lax.stop_gradient(old_logps), real)
    log_ratio = token_log_ratio
    if rule.importance_level == "sequence":
        log_ratio = _sequence_mean(log_ratio, real, continuation, num_continuations)
    ratio = jnp.exp(_clip(log_ratio))
    objective, clipped = _clipped_objective(ratio, advantages, rule)
    weight, capped = _sampler_weight(old_logps, sampler_logps, real, rule)
    loss, kl = -weight * objective, jnp.zeros_like(logps)
    if rule.beta > 0 and ref_logps is not None:
        kl = _divergence(_difference(jax.lax.stop_gradient(ref_logps), logps, real), rule.kl)
        if rule.use_bias_correction_kl:
            kl = jnp.exp(_clip(token_log_ratio)) * kl
        loss = loss + rule.beta * kl
    if rule.entropy_coef > 0 and entropy is not None:
        loss = loss - rule.entropy_coef * jnp.where(real, entropy, 0.0)
    zero = jnp.zeros_like(loss)
    return PolicyTerms(
        loss=jnp.where(real, loss, zero),
        ratio=jnp.where(real, ratio, zero),
        clipped=real & clipped,
        kl=jnp.where(real, kl, zero),
        sampler_capped=real & capped,
    )


def _difference(
    a: Float[Array, "B A"], b: Float[Array, "B A"], real: Bool[Array, "B A"]
) -> Float[Array, "B A"]:
    """The difference where `real`; elsewhere 0, without a gradient even where inputs are NaN."""
    return jnp.where(real, a, 0.0) - jnp.where(real, b, 0.0)


def _clip(log_ratio: Float[Array, "B A"]) -> Float[Array, "B A"]:
    return jnp.clip(log_ratio, -_MAX_LOG_RATIO, _MAX_LOG_RATIO)


def _sequence_mean(
    log_ratio: Float[Array, "B A"],
    real: Bool[Array, "B A"],
    continuation: Int[Array, "B A"],
    num_continuations: int,
) -> Float[Array, "B A"]:
    """The mean of log ρ_t over the thought, at each of its tokens."""
    member = (continuation[:, :, None] == jnp.arange(num_continuations)) & real[:, :, None]
    totals = jnp.sum(jnp.where(member, log_ratio[:, :, None], 0.0), axis=1)
    totals = totals / jnp.maximum(jnp.sum(member, axis=1), 1)
    return jnp.sum(jnp.where(member, totals[:, None, :], 0.0), axis=2)


def _clipped_objective(
    ratio: Float[Array, "B A"], advantages: Float[Array, "B A"], rule: PolicyRule
) -> tuple[Float[Array, "B A"], Bool[Array, "B A"]]:
    """J, and where it is clipped."""
    low, high = 1.0 - rule.clip_low, 1.0 + rule.clip_high
    objective = jnp.minimum(ratio * advantages, jnp.clip(ratio, low, high) * advantages)
    clipped = jnp.where(advantages > 0, ratio > high, (advantages < 0) & (ratio < low))
    if rule.dual_clip is not None:
        floored = (advantages < 0) & (ratio > rule.dual_clip)
        objective = jnp.where(floored, rule.dual_clip * advantages, objective)
        clipped = clipped | floored
    return objective, clipped


def _sampler_weight(
    old_logps: Float[Array, "B A"],
    sampler_logps: Float[Array, "B A"],
    real: Bool[Array, "B A"],
    rule: PolicyRule,
) -> tuple[Float[Array, "B A"], Bool[Array, "B A"]]:
    """w, a constant of the loss, and where the cap applies; 1 without a cap."""
    if rule.sampler_is_cap is None:
        return jnp.ones_like(old_logps), jnp.zeros_like(real)
    gap = jax.lax.stop_gradient(_clip(_difference(old_logps, sampler_logps, real)))
    limit = math.log(rule.sampler_is_cap)
    if rule.sampler_is_mode == "token_mask":
        beyond = jnp.abs(gap) > limit
        return jnp.where(beyond, 0.0, jnp.exp(gap)), beyond
    return jnp.exp(jnp.minimum(gap, limit)), gap > limit


def _divergence(u: Float[Array, "B A"], kind: str) -> Float[Array, "B A"]:
    """The KL estimator of this name, of u = log π_ref − log π; joschu.net/blog/kl-approx.html."""
    if kind == "k1":
        return -u
    u = _clip(u)
    return jnp.expm1(u) - u  # e^u − 1 is exact near 0, where the difference would cancel
