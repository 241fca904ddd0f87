"""The policy loss of stage 3: GRPO and its relatives, one token at a time.

For action t of thought i, with π the policy in training, π_old the policy before the update,
μ the sampler, π_ref the reference and A the advantage, the loss is

    ℓ_it = −w_it J_it + β k_it − c_H H_it
    J_it = min(ρ_it A_i, clip(ρ_it, 1 − ε_lo, 1 + ε_hi) A_i),    ρ_it = π(o_it)/π_old(o_it)
    w_it = sg[min(r_it, C)] or sg[r_it where 1/C ≤ r_it ≤ C, else 0],    r_it = π_old(o_it)/μ(o_it)
    H_it = −Σ_v π(v) log π(v), over the vocabulary at action t

and the step's loss is Σ_it weight_i ℓ_it, with one weight for each thought that already holds the
denominators of the whole step (`token_weights`). So micro-batches and devices simply add up.
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

_FURTHEST = 20.0
"""Log-ratios are cut here (e^20 is beyond every clip), so that no exponential overflows."""


@dataclass(frozen=True, kw_only=True)
class PolicyRule:
    """A `PolicyConfig` with every blank filled in; fields as there."""

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
"""What each named loss means. All start from ε = 0.2, ratios of tokens, k3, token mean, β = 0."""

_KNOWN = {
    "loss": tuple(PRESETS),
    "kl": ("k1", "k3"),
    "aggregation": ("token_mean", "seq_mean_token_mean", "seq_mean_token_sum_norm"),
    "importance_level": ("token", "sequence"),
    "sampler_is_mode": ("token_truncate", "token_mask"),
}


@dataclass(frozen=True, kw_only=True)
class PolicyConfig:
    """Which policy loss, and where it departs from its name. A blank (None) takes the preset's.

    Attributes:
        loss: "grpo": clip 0.2/0.2, β 0.001 with k3, mean over all tokens (arXiv:2402.03300 averages
            each thought first, so that a token weighs less in a longer one; `aggregation:
            seq_mean_token_mean` does that). "dr_grpo" (arXiv:2503.20783): sums over the largest
            length, no KL; it goes with advantages of kind "dr_grpo". "dapo" (arXiv:2503.14476):
            clip 0.2/0.28, mean over all tokens, no KL. "gspo" (arXiv:2507.18071): one ratio a
            thought, clip 3e-4/4e-4, mean over each thought, no KL.
        clip_low: ε_lo.
        clip_high: ε_hi; above ε_lo it is DAPO's clip-higher.
        dual_clip: c > 1: where A < 0, J is at least c·A, so that one token whose ratio exploded
            cannot carry the step (arXiv:1912.09729). No preset has one.
        kl: with u = log π_ref − log π, "k1" is −u, "k2" u²/2, "k3" e^u − u − 1. As losses on the
            policy's own samples k1 has zero expected gradient, k2 has that of KL(π‖π_ref), k3 that
            of KL(π_ref‖π).
        beta: weight of the KL term; at 0 no reference is needed.
        aggregation: how tokens are averaged, see `token_weights`.
        importance_level: what ρ is a ratio of. "token"; "sequence": the geometric mean over the
            thought (GSPO); "product": their product (LREM, arXiv:2510.14321). The last two give
            every token of a thought the same J, which `aggregation: seq_mean_token_mean` counts
            once.
        sampler_is_cap: C of the importance weight w between sampler and trainer; None trusts the
            sampler. 2, as in verl.
        sampler_is_mode: "token_truncate": w = min(r, C), truncated importance sampling. It keeps
            every token, with a bias where r > C. "token_mask": w = r where 1/C ≤ r ≤ C, else 0:
            tokens on which sampler and trainer disagree leave J (not the KL term, nor the
            denominators), masked importance sampling as IcePop and `token_mask` of TRL have it.
        use_bias_correction_kl: multiplies the KL term by the token's own ratio. With k1 and k3
            ρ_it k_it is an unbiased estimate of KL(π‖π_ref), its gradient included, also in later
            updates, when π_old drew the tokens (DeepSeek-V3.2, arXiv:2512.02556 eq. 7). It needs
            β above 0.
        entropy_coef: c_H, the weight of an entropy bonus at the sampling temperature, averaged as
            J is (arXiv:1602.01783); 0 is none.
        mask_truncated_completions: DAPO's overlong filter (arXiv:2503.14476): thoughts that were
            cut off at their budget leave the loss and its denominators, but not the baseline of
            their group.

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
        """The preset named by `loss`, with this config's own values on top."""
        own = {name: value for name, value in self.__dict__.items() if value is not None}
        del own["loss"]
        return replace(PRESETS[self.loss], **{**own, "sampler_is_cap": self.sampler_is_cap})


class PolicyTerms(NamedTuple):
    """The loss token by token; all are 0 or False outside the mask.

    Attributes:
        loss: ℓ_it, not yet weighted.
        ratio: ρ_it.
        clipped: where a clip holds J, so that the policy term has no gradient.
        kl: k_it in nats, without β, and with the ratio of `use_bias_correction_kl`.
        sampler_capped: where the sampler's ratio lies beyond its cap: w is truncated, or 0.
    """

    loss: Float[Array, "B A"]
    ratio: Float[Array, "B A"]
    clipped: Bool[Array, "B A"]
    kl: Float[Array, "B A"]
    sampler_capped: Bool[Array, "B A"]


def token_weights(
    lengths: Int[np.ndarray, " T"], aggregation: str, max_tokens: int
) -> Float[np.ndarray, " T"]:
    """The weight of each token of each thought, so that the step's loss is Σ_it weight_i ℓ_it.

    With n_i actions in thought i and B thoughts kept:

        token_mean               1/Σ_j n_j      DAPO, arXiv:2503.14476
        seq_mean_token_mean      1/(B n_i)      GRPO, arXiv:2402.03300
        seq_mean_token_sum_norm  1/(B L)        Dr.GRPO, arXiv:2503.20783

    Args:
        lengths: n_i of all thoughts of the step, on all devices; 0 for a thought that is dropped
            or masked.
        aggregation: one of the four.
        max_tokens: L, the budget.
    """
    counts = lengths.astype(np.float64)
    kept = counts > 0
    per_thought = {
        "token_mean": np.full_like(counts, counts.sum()),
        "seq_mean_token_mean": kept.sum() * counts,
        "seq_mean_token_sum_norm": np.full_like(counts, kept.sum() * max_tokens),
    }[aggregation]
    return np.divide(1.0, per_thought, out=np.zeros_like(counts), where=kept).astype(np.float32)


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
    ratio = jnp.exp(_cut(log_ratio))
    objective, clipped = _clipped_objective(ratio, advantages, rule)
    weight, capped = _sampler_weight(old_logps, sampler_logps, real, rule)
    loss, kl = -weight * objective, jnp.zeros_like(logps)
    if rule.beta > 0 and ref_logps is not None:
        kl = _divergence(_difference(jax.lax.stop_gradient(ref_logps), logps, real), rule.kl)
        if rule.use_bias_correction_kl:
            kl = jnp.exp(_cut(token_log_ratio)) * kl
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


def _cut(log_ratio: Float[Array, "B A"]) -> Float[Array, "B A"]:
    return jnp.clip(log_ratio, -_FURTHEST, _FURTHEST)


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
    """J, and where it no longer depends on the ratio."""
    low, high = 1.0 - rule.clip_low, 1.0 + rule.clip_high
    objective = jnp.minimum(ratio * advantages, jnp.clip(ratio, low, high) * advantages)
    clipped = jnp.where(advantages > 0, ratio > high, (advantages < 0) & (ratio < low))
    if rule.dual_clip is not None:
        floored = (advantages < 0) & (ratio > rule.dual_clip)
        objective = jnp.where(floored, rule.dual_clip * advantages, objective)
        clipped = clipped | floored
    return objective, clipped


def _sampler_weight(
    old: Float[Array, "B A"],
    sampler: Float[Array, "B A"],
    real: Bool[Array, "B A"],
    rule: PolicyRule,
) -> tuple[Float[Array, "B A"], Bool[Array, "B A"]]:
    """w, a constant of the loss, and where the cap decides it; 1 throughout without a cap."""
    if rule.sampler_is_cap is None:
        return jnp.ones_like(old), jnp.zeros_like(real)
    gap = jax.lax.stop_gradient(_cut(_difference(old, sampler, real)))
    limit = math.log(rule.sampler_is_cap)
    if rule.sampler_is_mode == "token_mask":
        beyond = jnp.abs(gap) > limit
        return jnp.where(beyond, 0.0, jnp.exp(gap)), beyond
    return jnp.exp(jnp.minimum(gap, limit)), gap > limit


def _divergence(u: Float[Array, "B A"], kind: str) -> Float[Array, "B A"]:
    """The estimator of this name from u = log π_ref − log π, joschu.net/blog/kl-approx.html."""
    if kind == "k1":
        return -u
    u = _cut(u)
    return jnp.expm1(u) - u  # e^u − 1 is exact near 0, where the difference would cancel
