"""AdamW on float32 weights, with schedules, gradient clipping and an optional EMA."""

import functools
from dataclasses import dataclass, replace
from typing import Literal, cast

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from t1_jax.errors import ConfigError, UnsupportedError

_DECAYING = frozenset({"kernel", "table", "a", "b"})
"""Parameters with weight decay: projections, head, embedding table and adapter factors."""

_NO_LIMIT = 2**31 - 1
"""Consecutive non-finite gradients to skip; `Health` stops a run earlier."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """AdamW; the authors of T1 published none of these values.

    Attributes:
        learning_rate: peak learning rate. About 1e-5 for all weights, 1e-4 for adapters, 1e-6 with
            a reward.
        schedule: schedule after the warm-up.
        warmup_ratio: fraction of the steps with linear warm-up.
        min_lr_ratio: final learning rate as a fraction of the peak.
        weight_decay: decoupled weight decay, of all weights but norms, biases and the vector added
            to the row of `<emb_token>`. With adapters it decays both factors, towards the base
            model.
        beta1: decay of the first moment.
        beta2: decay of the second moment.
        epsilon: added to the root of the second moment.
        clip_norm: maximum global norm of the gradient; 0 turns clipping off.
        ema: decay of an exponential moving average of the weights, which is then validated and
            exported; null for none.

    Raises:
        ConfigError: a number is out of range.
    """

    learning_rate: float = 1e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup_ratio: float = 0.03
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    ema: float | None = None

    def __post_init__(self) -> None:
        for name, good, range_ in (
            ("learning_rate", lambda x: x > 0, "above 0"),
            ("warmup_ratio", lambda x: 0 <= x <= 1, "from 0 to 1"),
            ("min_lr_ratio", lambda x: 0 <= x <= 1, "from 0 to 1"),
            ("weight_decay", lambda x: x >= 0, "at least 0"),
            ("beta1", lambda x: 0 <= x < 1, "from 0 to below 1"),
            ("beta2", lambda x: 0 <= x < 1, "from 0 to below 1"),
            ("epsilon", lambda x: x > 0, "above 0"),
            ("clip_norm", lambda x: x >= 0, "at least 0"),
            ("ema", lambda x: x is None or 0 < x < 1, "between 0 and 1"),
        ):
            value = self.__dict__[name]
            if not good(value):
                raise ConfigError(f"{name} must be {range_}, got {value}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainState:
    """Weights and optimizer state.

    Attributes:
        trained: trainable weights in float32.
        optimizer: moments and counters.
        average: exponential moving average of the weights; None without `ema`.
        step: updates so far in this stage; abstract in the description of a checkpoint.
    """

    trained: nnx.State
    optimizer: optax.ApplyIfFiniteState
    average: nnx.State | None
    step: Int[Array, ""] | jax.ShapeDtypeStruct

    @property
    def best_weights(self) -> nnx.State:
        """The weights to validate and export: the average if there is one."""
        return self.trained if self.average is None else self.average


class Optimizer:
    """The optimizer of one stage.

    A non-finite gradient leaves weights and moments unchanged, so that a broken run keeps those of
    its last good step; only the count of steps and the average of the weights advance. `steps` is
    the length of the schedule in updates.
    """

    def __init__(self, config: OptimizerConfig, steps: int) -> None:
        self.config = config
        is_constant = config.schedule == "constant" and not config.warmup_ratio
        self.rule, self.schedule = _rule_and_schedule(config, 1 if is_constant else steps)

    def start(self, trained: nnx.State) -> TrainState:
        """The state before the first step; moments have the shardings of their weights.

        Raises:
            UnsupportedError: a weight is not float32, in which small updates would be lost.
        """
        for leaf in jax.tree.leaves(trained):
            if leaf.dtype != jnp.float32:
                raise UnsupportedError(
                    f"trainable weights must be float32, one is {leaf.dtype}",
                    hint="load the model with param_dtype float32; activations may be bfloat16",
                )
        return TrainState(
            trained=trained,
            optimizer=jax.jit(self.rule.init)(trained),
            average=None if self.config.ema is None else jax.tree.map(jnp.copy, trained),
            step=jnp.zeros((), jnp.int32),
        )

    def apply(
        self, state: TrainState, gradients: nnx.State
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update. Consumes the state; both arguments have equal shardings.

        Returns:
            The new state, and metrics: the gradient norm before clipping, the learning rate, the
            updates skipped in this stage for a non-finite gradient, and the last ones in a row.
        """
        return _apply(self.rule, self.schedule, self.config.ema, state, gradients)


@functools.cache
def _rule_and_schedule(
    config: OptimizerConfig, steps: int
) -> tuple[optax.GradientTransformation, optax.Schedule]:
    """The same objects for equal arguments, so that equal stages share compiled programs."""
    schedule = learning_rate_schedule(config, steps)
    parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
    parts.append(
        optax.adamw(
            schedule,
            b1=config.beta1,
            b2=config.beta2,
            eps=config.epsilon,
            weight_decay=config.weight_decay,
            mask=_decays,
        )
    )
    return optax.apply_if_finite(optax.chain(*parts), _NO_LIMIT), schedule


def learning_rate_schedule(config: OptimizerConfig, steps: int) -> optax.Schedule:
    """Maps the number of the update, from 0, to the learning rate.

    During W updates of warm-up it is peak * (n + 1)/(W + 1), above 0 from the first one. The next
    update has the peak, and `min_lr_ratio` would be reached one update after the last.
    """
    warmup = round(config.warmup_ratio * steps)
    rest = max(steps - warmup, 1)
    peak, end = config.learning_rate, config.learning_rate * config.min_lr_ratio
    falling = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, end, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest, alpha=config.min_lr_ratio),
    }[config.schedule]
    if not warmup:
        return falling
    rising = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rising, falling], [warmup])


def _decays(trained: nnx.State) -> nnx.State:
    """Which weights decay, by the last part of their path; a stacked bias has three axes too."""
    return nnx.map_state(lambda path, _: path[-1] in _DECAYING, trained)


@functools.partial(jax.jit, static_argnames=("rule", "schedule", "ema"), donate_argnames=("state",))
def _apply(
    rule: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema: float | None,
    state: TrainState,
    gradients: nnx.State,
) -> tuple[TrainState, dict[str, jax.Array]]:
    norm = optax.tree.norm(gradients)
    # The norm may overflow although no gradient does; such an update is skipped too.
    gradients = jax.tree.map(lambda leaf: jnp.where(jnp.isfinite(norm), leaf, jnp.nan), gradients)
    # Optax types every tree as any tree.
    updates, new = rule.update(gradients, state.optimizer, state.trained)
    optimizer = cast("optax.ApplyIfFiniteState", new)
    trained = cast("nnx.State", optax.apply_updates(state.trained, updates))
    average = state.average
    if ema is not None and average is not None:
        average = cast("nnx.State", optax.incremental_update(trained, average, 1 - ema))
    step = cast("jax.Array", state.step)
    skipped = state.optimizer.total_notfinite
    metrics = {
        "grad_norm": norm,
        # Skipped updates do not count for the schedule.
        "learning_rate": jnp.asarray(schedule(step - skipped), jnp.float32),
        "skipped_updates": optimizer.total_notfinite,
        "skipped_in_a_row": optimizer.notfinite_count,
    }
    return replace(
        state, trained=trained, optimizer=optimizer, average=average, step=step + 1
    ), metrics
