"""Matrix products in low precision, forward and backward.

A product of bf16 operands that returns float32 has, under plain autodiff, a backward pass in
float32: the cotangent is float32 and each operand is promoted to meet it. That is several times
slower on every device. Here the cotangent is rounded to the dtype of the products first, as
mixed-precision training does (arXiv:1710.03740); all sums stay float32.
"""

from functools import partial

import jax
import jax.numpy as jnp


def product(
    equation: str,
    x: jax.Array,
    w: jax.Array,
    *,
    dtype: jnp.dtype | None = None,
    gathered: jax.P | None = None,
    out: jax.P | None = None,
) -> jax.Array:
    """einsum(equation, x, w) of operands in `dtype`, summed and returned in float32.

    The gradients are computed by products of operands in `dtype` with float32 sums, and come back
    in the dtype and with the sharding of x and w: that of a float32 master weight is never
    rounded to `dtype`. In float32 this is einsum and its gradient.

    Args:
        equation: two operands, every letter of each in the other or in the result.
        x: activations.
        w: a weight in its stored dtype and sharding, or other activations.
        dtype: of the operands in the products; x's unless given.
        gathered: sharding in which w meets x, None to leave it (always inside `jax.shard_map`).
        out: sharding of the result, None where there is no mesh to say it of.
    """
    return _product(equation, jnp.dtype(dtype or x.dtype), gathered, out, x, w)


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2, 3))
def _product(
    equation: str,
    dtype: jnp.dtype,
    gathered: jax.P | None,
    out: jax.P | None,
    x: jax.Array,
    w: jax.Array,
) -> jax.Array:
    return _einsum(equation, x.astype(dtype), _gather(w, dtype, gathered), out)


def _forward(
    equation: str,
    dtype: jnp.dtype,
    gathered: jax.P | None,
    out: jax.P | None,
    x: jax.Array,
    w: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # The stored weight is kept, not the gathered one: it is there anyway and 1/fsdp of the size.
    return _product(equation, dtype, gathered, out, x, w), (x, w)


def _backward(
    equation: str,
    dtype: jnp.dtype,
    gathered: jax.P | None,
    out: jax.P | None,
    kept: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    inputs, result = equation.split("->")
    x_letters, w_letters = inputs.split(",")
    dy = cotangent.astype(dtype)
    meshed = out is not None
    dx = _einsum(
        f"{result},{w_letters}->{x_letters}",
        dy,
        _gather(w, dtype, gathered),
        jax.typeof(x).sharding.spec if meshed else None,
    )
    dw = _einsum(
        f"{x_letters},{result}->{w_letters}",
        x.astype(dtype),
        dy,
        jax.typeof(w).sharding.spec if meshed else None,
    )
    return dx.astype(x.dtype), dw.astype(w.dtype)


_product.defvjp(_forward, _backward)


def _gather(w: jax.Array, dtype: jnp.dtype, gathered: jax.P | None) -> jax.Array:
    """The weight as it enters the product; cast first, so that half the bytes travel."""
    w = w.astype(dtype)
    return w if gathered is None else jax.reshard(w, gathered)


def _einsum(equation: str, x: jax.Array, w: jax.Array, out: jax.P | None) -> jax.Array:
    return jnp.einsum(equation, x, w, preferred_element_type=jnp.float32, out_sharding=out)
