"""AdamW on float32 masters: schedules, clipping, and an average of the weights where asked for."""

import functools
from dataclasses import dataclass
from typing import Literal

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jaxtyping import Array, Int

from t1_jax.errors import ConfigError


@dataclass(frozen=True, kw_only=True)
class OptimiserConfig:
    """How gradients change weights; the authors of T1 published none of it.

    Attributes:
        learning_rate: at its peak. About 1e-5 for all weights, 1e-4 for adapters, 1e-6 with a
            reward.
        schedule: after the warm-up.
        warmup: share of the steps in which the rate rises from 0.
        final: share of the peak at which a schedule ends.
        weight_decay: of matrices; norms, biases and vectors have none.
        beta1: decay of the mean of gradients.
        beta2: decay of the mean of their squares.
        epsilon: added to the root of the latter.
        clip_norm: gradients are scaled down to this global norm; 0 leaves them.
        ema: decay of an average of the weights, which is then what is evaluated and exported.
        tolerate_bad_steps: updates in a row with a gradient that is not finite that are left out;
            one more is applied, and the health check stops the run.
    """

    learning_rate: float = 1e-5
    schedule: Literal["cosine", "linear", "constant"] = "cosine"
    warmup: float = 0.03
    final: float = 0.0
    weight_decay: float = 0.0
    beta1: float = 0.9
    beta2: float = 0.999
    epsilon: float = 1e-8
    clip_norm: float = 1.0
    ema: float | None = None
    tolerate_bad_steps: int = 3

    def __post_init__(self) -> None:
        if self.learning_rate <= 0:
            raise ConfigError(f"learning_rate must be positive, got {self.learning_rate}")
        for name in ("warmup", "final"):
            if not 0 <= self.__dict__[name] <= 1:
                raise ConfigError(f"{name} is a share from 0 to 1, got {self.__dict__[name]}")
        if self.ema is not None and not 0 < self.ema < 1:
            raise ConfigError(f"ema must lie between 0 and 1, got {self.ema}")


@jax.tree_util.register_dataclass
@dataclass(frozen=True, kw_only=True, eq=False)
class TrainState:
    """What a step changes.

    Attributes:
        trained: float32 masters of the weights that learn.
        optimiser: moments and counters.
        average: of the weights, where asked for.
        step: updates so far in this stage.
    """

    trained: nnx.State
    optimiser: optax.OptState
    average: nnx.State | None
    step: Int[Array, ""]

    @property
    def best_weights(self) -> nnx.State:
        """What to evaluate and export: the average where there is one."""
        return self.trained if self.average is None else self.average


class Optimiser:
    """The update rule of one stage."""

    def __init__(self, config: OptimiserConfig, steps: int) -> None:
        self.config = config
        self.schedule = learning_rate_schedule(config, steps)
        parts = [optax.clip_by_global_norm(config.clip_norm)] if config.clip_norm else []
        parts.append(
            optax.adamw(
                self.schedule,
                b1=config.beta1,
                b2=config.beta2,
                eps=config.epsilon,
                weight_decay=config.weight_decay,
                mask=_is_matrix,
            )
        )
        self.rule = optax.apply_if_finite(optax.chain(*parts), config.tolerate_bad_steps)

    def start(self, trained: nnx.State) -> TrainState:
        """The state before the first step; moments lie beside their weights."""
        average = None
        if self.config.ema is not None:
            average = jax.tree.map(jnp.copy, trained)
        return TrainState(
            trained=trained,
            optimiser=jax.jit(self.rule.init)(trained),
            average=average,
            step=jnp.zeros((), jnp.int32),
        )

    def apply(
        self, state: TrainState, gradients: nnx.State
    ) -> tuple[TrainState, dict[str, jax.Array]]:
        """One update, and its measures. The state given is consumed."""
        return _apply(self.rule, self.schedule, self.config.ema, state, gradients)


def learning_rate_schedule(config: OptimiserConfig, steps: int) -> optax.Schedule:
    """Step -> learning rate; the first step has one above 0."""
    warmup = round(config.warmup * steps)
    rest = max(steps - warmup, 1)
    peak, end = config.learning_rate, config.learning_rate * config.final
    falling = {
        "constant": optax.constant_schedule(peak),
        "linear": optax.linear_schedule(peak, end, rest),
        "cosine": optax.cosine_decay_schedule(peak, rest, alpha=config.final),
    }[config.schedule]
    if not warmup:
        return falling
    rising = optax.linear_schedule(peak / (warmup + 1), peak, warmup)
    return optax.join_schedules([rising, falling], [warmup])


def _is_matrix(trained: nnx.State) -> nnx.State:
    """Which weights decay: those with two dimensions or more beside the layers' own."""
    return jax.tree.map(lambda leaf: leaf.ndim > 2, trained)


@functools.partial(
    jax.jit,
    static_argnames=("rule", "schedule", "ema"),
    donate_argnames=("state",),
)
def _apply(
    rule: optax.GradientTransformation,
    schedule: optax.Schedule,
    ema: float | None,
    state: TrainState,
    gradients: nnx.State,
) -> tuple[TrainState, dict[str, jax.Array]]:
    updates, optimiser = rule.update(gradients, state.optimiser, state.trained)
    trained = optax.apply_updates(state.trained, updates)
    average = state.average
    if ema is not None:
        average = optax.incremental_update(trained, state.average, 1 - ema)
    measures = {
        "grad_norm": optax.tree.norm(gradients),
        "learning_rate": jnp.asarray(schedule(state.step), jnp.float32),
    }
    new = TrainState(trained=trained, optimiser=optimiser, average=average, step=state.step + 1)
    return new, measures
