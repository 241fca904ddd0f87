"""Compilations are counted by function, and only inside the block."""

import jax
import jax.numpy as jnp

from t1_jax.parallel import count_compilations


def test_each_shape_counts_once() -> None:
    @jax.jit
    def double(x: jax.Array) -> jax.Array:
        return 2 * x

    inputs = [jnp.ones(3), jnp.ones(3), jnp.ones(4)]
    with count_compilations() as compiled:
        for x in inputs:
            double(x)
    assert compiled.of["double"] == 2
    assert compiled.seconds > 0
    with count_compilations() as again:
        double(inputs[0])
    assert again.count == 0
    double(jnp.ones(5))
    assert compiled.of["double"] == 2
