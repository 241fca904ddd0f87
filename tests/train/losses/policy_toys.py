"""Rows of thoughts, several policy losses, and the loss as plain loops."""

import functools
import math
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from t1_jax.train.losses import PolicyConfig, PolicyTerms, policy_loss

CONFIGS = [
    PolicyConfig(loss="grpo", beta=0.1),
    PolicyConfig(loss="grpo", beta=0.1, kl="k1", sampler_is_cap=None),
    PolicyConfig(loss="grpo", beta=0.1, dual_clip=1.3),
    PolicyConfig(loss="dr_grpo", sampler_is_cap=1.05),
    PolicyConfig(loss="dapo"),
    PolicyConfig(loss="gspo", clip_low=0.05, clip_high=0.08, beta=0.1),
    PolicyConfig(loss="grpo", beta=0.1, use_bias_correction_kl=True, entropy_coef=0.05),
    PolicyConfig(
        loss="gspo",
        beta=0.1,
        kl="k1",
        use_bias_correction_kl=True,
        sampler_is_cap=1.2,
        sampler_is_mode="token_mask",
    ),
]
MAX_CONTINUATIONS = 3


def problem(seed: int, rows: int = 8, actions: int = 10) -> dict[str, np.ndarray]:
    """Rows of up to three thoughts, with padding in between and garbage under it."""
    rng = np.random.default_rng(seed)
    shape = (rows, actions)
    logps = -rng.exponential(1.0, shape)
    continuation = np.sort(rng.integers(0, MAX_CONTINUATIONS, shape), axis=1)
    per_thought = rng.standard_normal((rows, MAX_CONTINUATIONS))
    return {
        "logps": logps,
        "old_logps": logps + 0.2 * rng.standard_normal(shape),
        "sampler_logps": logps + 0.2 * rng.standard_normal(shape),
        "ref_logps": logps + 0.5 * rng.standard_normal(shape),
        "entropy": rng.uniform(0.1, 3.0, shape),
        "advantages": np.take_along_axis(per_thought, continuation, axis=1),
        "mask": rng.random(shape) < 0.8,
        "continuation": continuation.astype(np.int32),
    }


def run(data: dict[str, Any], config: PolicyConfig) -> PolicyTerms:
    """In float32, unless the data are float64 under `enable_x64`."""
    return run_with_gradient(data, config)[1]


def run_with_gradient(data: dict[str, Any], config: PolicyConfig) -> tuple[jax.Array, PolicyTerms]:
    """The gradient of the summed loss with respect to `logps`, and the terms: one program."""
    arrays = {k: v if v is None else jnp.asarray(v) for k, v in data.items()}
    return _compiled(arrays, config)


@functools.partial(jax.jit, static_argnames=("config",))
def _compiled(arrays: dict[str, jax.Array], config: PolicyConfig) -> tuple[jax.Array, PolicyTerms]:
    rest = dict(arrays)

    def total(logps: jax.Array) -> tuple[jax.Array, PolicyTerms]:
        terms = policy_loss(logps, **rest, num_continuations=MAX_CONTINUATIONS, config=config)
        return terms.loss.sum(), terms

    return jax.grad(total, has_aux=True)(rest.pop("logps"))


def plain_loss(data: dict[str, np.ndarray], config: PolicyConfig) -> np.ndarray:
    """ℓ_it, token by token, from the formula."""
    rule = config.resolved()
    losses = np.zeros(data["mask"].shape)
    for row, t in np.argwhere(data["mask"]).tolist():
        thought = [
            s
            for s in range(losses.shape[1])
            if data["mask"][row, s] and data["continuation"][row, s] == data["continuation"][row, t]
        ]
        ratios = [math.exp(data["logps"][row, s] - data["old_logps"][row, s]) for s in thought]
        ratio = {
            "token": math.exp(data["logps"][row, t] - data["old_logps"][row, t]),
            "sequence": math.prod(ratios) ** (1 / len(ratios)),
        }[rule.importance_level]
        advantage = data["advantages"][row, t]
        inside = min(max(ratio, 1 - rule.clip_low), 1 + rule.clip_high)
        objective = min(ratio * advantage, inside * advantage)
        if rule.dual_clip is not None and advantage < 0:
            objective = max(objective, rule.dual_clip * advantage)
        weight = 1.0
        if rule.sampler_is_cap is not None:
            weight = math.exp(data["old_logps"][row, t] - data["sampler_logps"][row, t])
            if rule.sampler_is_mode == "token_mask":
                weight *= 1 / rule.sampler_is_cap <= weight <= rule.sampler_is_cap
            else:
                weight = min(weight, rule.sampler_is_cap)
        u = data["ref_logps"][row, t] - data["logps"][row, t]
        divergence = {"k1": -u, "k3": math.exp(u) - u - 1}[rule.kl]
        if rule.use_bias_correction_kl:
            divergence *= math.exp(data["logps"][row, t] - data["old_logps"][row, t])
        bonus = rule.entropy_coef * data["entropy"][row, t]
        losses[row, t] = -weight * objective + rule.beta * divergence - bonus
    return losses
