"""Group-relative advantages: rewards compared within the thoughts of a query."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from t1_jax.config import suggestion
from t1_jax.errors import ConfigError, DataError

KINDS = ("grpo", "dr_grpo", "rloo", "raft")
ZERO_VARIANCE = ("drop", "zero", "resample")


@dataclass(frozen=True, kw_only=True)
class AdvantageConfig:
    """How the rewards of a group become advantages.

    Attributes:
        kind: "dr_grpo": r − mean, arXiv:2503.20783; "grpo": (r − mean)/(std + eps),
            arXiv:2402.03300; "rloo": r − mean of the others, arXiv:2402.14740; "raft": 1 for the
            thought with the highest reward and 0 for the others, which is SFT on the best of G
            thoughts (expert iteration, rejection sampling; arXiv:2304.06767, arXiv:2504.11343). The
            default does not divide: retrieval rewards are continuous, and once all thoughts of a
            group are well formed and rank the positive first, they differ by thousandths of a
            cosine. Division would give that noise the weight of a rank. Without it advantages are
            in the unit of the reward, mostly well below 1, so that β and the other losses weigh
            more in proportion. `rollout/advantage_abs` is their mean size.
        eps: ε_A, added to the standard deviation by "grpo".
        std_floor: a group whose rewards have a smaller standard deviation counts as one without
            variance, with every kind.
        zero_variance: "drop": a group without variance is left out of the loss and its
            denominators. "zero": its advantages are 0, but it counts in the denominators and the KL
            term. "resample": as "drop", and further queries are sampled in its place (DAPO,
            arXiv:2503.14476); see `RolloutBatches.rollout`.

    Raises:
        ConfigError: an unknown name, or a number that is negative or not finite.
    """

    kind: str = "dr_grpo"
    eps: float = 1e-4
    std_floor: float = 1e-3
    zero_variance: str = "drop"

    def __post_init__(self) -> None:
        for name, known in (("kind", KINDS), ("zero_variance", ZERO_VARIANCE)):
            value = self.__dict__[name]
            if value not in known:
                raise ConfigError(f"unknown {name} {value!r}", hint=suggestion(value, known))
        for name in ("eps", "std_floor"):
            if not 0 <= self.__dict__[name] < float("inf"):
                raise ConfigError(
                    f"{name} must be finite and at least 0, got {self.__dict__[name]}"
                )


def group_advantages(
    rewards: Float[np.ndarray, "P G"], config: AdvantageConfig
) -> tuple[Float[np.ndarray, "P G"], Bool[np.ndarray, " P"]]:
    """The advantage of each thought within its group, and the mask of groups in the loss.

    Advantages of a group without variance (see `has_variance`) are exactly 0, in the loss or not.

    Raises:
        DataError: a reward that is not finite.
    """
    varied = has_variance(rewards, config.std_floor)
    exact = rewards.astype(np.float64)
    advantages = exact - exact.mean(axis=1, keepdims=True)
    if config.kind == "grpo":
        advantages /= np.where(varied, _sample_std(exact) + config.eps, 1.0)[:, None]
    elif config.kind == "rloo":
        # r_i − Σ_{j≠i} r_j/(G−1) = G/(G−1) (r_i − mean); a group of one has no variance.
        samples = rewards.shape[1]
        advantages *= samples / max(samples - 1, 1)
    elif config.kind == "raft":
        advantages = (np.arange(rewards.shape[1]) == exact.argmax(axis=1)[:, None]).astype(float)
    group_mask = varied | (config.zero_variance == "zero")
    return np.where(varied[:, None], advantages, 0.0).astype(np.float32), group_mask


def has_variance(rewards: Float[np.ndarray, "P G"], std_floor: float) -> Bool[np.ndarray, " P"]:
    """Whether a group's sample standard deviation reaches the floor; a group of one never does.

    Raises:
        DataError: a reward that is not finite.
    """
    for query, sample in np.argwhere(~np.isfinite(rewards)).tolist():
        raise DataError(f"thought {sample} of query {query} has the reward NaN or infinity")
    std = _sample_std(rewards.astype(np.float64))
    return (std >= std_floor) & (std > 0)


def _sample_std(rewards: Float[np.ndarray, "P G"]) -> Float[np.ndarray, " P"]:
    """With G − 1 in the denominator, as torch.std; 0 for a group of one."""
    if rewards.shape[1] < 2:
        return np.zeros(len(rewards))
    return rewards.std(axis=1, ddof=1)
