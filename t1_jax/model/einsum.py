"""Matrix products in low precision, forward and backward.

A product of bf16 operands that returns float32 has, under plain autodiff, a backward pass in
float32: the cotangent is float32 and each operand is promoted to meet it. That is several times
slower on every device. Here the cotangent is rounded to the dtype of the products first, as
mixed-precision training does (arXiv:1710.03740); all sums stay float32.
"""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


def einsum_fp32_accum(
    equation: str,
    x: jax.Array,
    w: jax.Array,
    *,
    dtype: jnp.dtype | None = None,
    result: jnp.dtype | None = None,
    gathered: jax.P | None = None,
    gathered_x: jax.P | None = None,
    out: jax.P | None = None,
) -> jax.Array:
    """einsum(equation, x, w) of operands in `dtype`, summed in float32.

    The gradients are computed by products of operands in `dtype` with float32 sums, and come back
    in the dtype and with the sharding of x and w: that of a float32 master weight is never
    rounded to `dtype`. In float32 this is einsum and its gradient.

    Args:
        equation: two operands, every letter of each in the other or in the result.
        x: activations.
        w: a weight in its stored dtype and sharding, or other activations.
        dtype: of the operands in the products; x's unless given.
        result: dtype of the result and of the gradient of x as the products write them; float32
            unless given.
        gathered: sharding in which w meets x, None to leave it (always inside `jax.shard_map`).
        gathered_x: the same of x.
        out: sharding of the result, None where there is no mesh to say it of.
    """
    dtypes = jnp.dtype(dtype or x.dtype), jnp.dtype(result or jnp.float32)
    return _product(equation, dtypes, _Specs(gathered_x, gathered, out), x, w)


_Dtypes = tuple[jnp.dtype, jnp.dtype]
"""Of the operands, and of the result."""


class _Specs(NamedTuple):
    """Shardings of the operands where they meet, and of the result."""

    x: jax.P | None
    w: jax.P | None
    out: jax.P | None


@partial(jax.custom_vjp, nondiff_argnums=(0, 1, 2))
def _product(
    equation: str,
    dtypes: _Dtypes,
    specs: _Specs,
    x: jax.Array,
    w: jax.Array,
) -> jax.Array:
    dtype, result = dtypes
    x, w = _gather(x, dtype, specs.x), _gather(w, dtype, specs.w)
    return _einsum(equation, x, w, specs.out, result)


def _forward(
    equation: str,
    dtypes: _Dtypes,
    specs: _Specs,
    x: jax.Array,
    w: jax.Array,
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    # The stored weight is kept, not the gathered one: it is there anyway and 1/fsdp of the size.
    return _product(equation, dtypes, specs, x, w), (x, w)


def _backward(
    equation: str,
    dtypes: _Dtypes,
    specs: _Specs,
    kept: tuple[jax.Array, jax.Array],
    cotangent: jax.Array,
) -> tuple[jax.Array, jax.Array]:
    x, w = kept
    dtype, result_dtype = dtypes
    inputs, result = equation.split("->")
    x_letters, w_letters = inputs.split(",")
    dy = cotangent.astype(dtype)
    meshed = specs.out is not None
    dx = _einsum(
        f"{result},{w_letters}->{x_letters}",
        dy,
        _gather(w, dtype, specs.w),
        jax.typeof(x).sharding.spec if meshed else None,
        result_dtype,
    )
    dw = jax.lax.platform_dependent(
        _gather(x, dtype, specs.x),
        dy,
        cpu=partial(_weight_gradient_on_cpu, x_letters, result, w_letters, w, meshed),
        default=partial(_weight_gradient, x_letters, result, w_letters, w, meshed),
    )
    return dx.astype(x.dtype), dw.astype(w.dtype)


_product.defvjp(_forward, _backward)


def _weight_gradient(
    x_letters: str,
    result: str,
    w_letters: str,
    w: jax.Array,
    meshed: bool,
    x: jax.Array,
    dy: jax.Array,
) -> jax.Array:
    spec = jax.typeof(w).sharding.spec if meshed else None
    return _einsum(f"{x_letters},{result}->{w_letters}", x, dy, spec, jnp.dtype(jnp.float32))


def _weight_gradient_on_cpu(
    x_letters: str,
    result: str,
    w_letters: str,
    w: jax.Array,
    meshed: bool,
    x: jax.Array,
    dy: jax.Array,
) -> jax.Array:
    """The same over a transposed copy of x.

    XLA's CPU back end multiplies bf16 at full speed only where the left operand is contracted along
    its innermost axis; otherwise it widens both to float32, at half the speed. A plain transpose
    would be folded back into the product, so the copy's layout is prescribed.
    """
    kept = [letter for letter in x_letters if letter in w_letters]
    turned = "".join([*kept, *(letter for letter in x_letters if letter not in kept)])
    copy = x.transpose([x_letters.index(letter) for letter in turned])
    copy = with_layout_constraint(copy, Layout(tuple(range(copy.ndim))))
    return _weight_gradient(turned, result, w_letters, w, meshed, copy, dy)


def _gather(operand: jax.Array, dtype: jnp.dtype, spec: jax.P | None) -> jax.Array:
    """An operand as it enters the product; cast first, so that half the bytes travel."""
    cast = operand.astype(dtype)
    return cast if spec is None else jax.reshard(cast, spec)


def _einsum(
    equation: str, x: jax.Array, w: jax.Array, out: jax.P | None, result: jnp.dtype
) -> jax.Array:
    return jnp.einsum(equation, x, w, preferred_element_type=result, out_sharding=out)
