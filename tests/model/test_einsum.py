"""Products in low precision: gradients against plain autodiff, and over meshes."""

import re
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.model.einsum import einsum_fp32_accum
from t1_jax.parallel import (
    MeshConfig,
    MeshContext,
    activation_axes,
    make_mesh_context,
    single_device_mesh_context,
    weight_axes,
)

EQUATIONS = ("bld,df->blf", "blf,fd->bld", "bld,dkh->blkh", "blnh,nhd->bld", "bld,vd->blv")
SIZES = {"b": 8, "l": 3, "d": 16, "f": 24, "n": 4, "k": 2, "h": 6, "v": 32}


def operands(equation: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, the weight, and a cotangent of the result."""
    inputs, result = equation.split("->")
    generator = np.random.default_rng(0)
    x, w, dy = (
        generator.standard_normal([SIZES[letter] for letter in letters]).astype(np.float32)
        for letters in (*inputs.split(","), result)
    )
    return x, w, dy


def by_product(
    equation: str, dtype: str, mesh_context: MeshContext, result: str = "float32"
) -> tuple[jax.Array, ...]:
    """The result and both gradients over a mesh, from a float32 weight placed by the rules."""
    inputs, y_letters = equation.split("->")
    x_letters, w_letters = inputs.split(",")
    spec = mesh_context.rules.spec
    x, w, dy = operands(equation)
    x = jax.device_put(x.astype(jnp.dtype(dtype)), mesh_context.activation(x_letters))
    w = jax.device_put(w, jax.NamedSharding(mesh_context.mesh, spec(weight_axes(w_letters))))
    dy = jax.device_put(dy.astype(result), mesh_context.activation(y_letters))

    def call(x: jax.Array, w: jax.Array) -> jax.Array:
        return einsum_fp32_accum(
            equation,
            x,
            w,
            result=jnp.dtype(result),
            gathered=spec(activation_axes(w_letters)),
            out=spec(activation_axes(y_letters)),
        )

    def both(x: jax.Array, w: jax.Array, dy: jax.Array) -> tuple[jax.Array, ...]:
        y, pull = jax.vjp(call, x, w)
        return (y, *pull(dy))

    with mesh_context.activate():
        return jax.jit(both)(x, w, dy)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_in_float32_it_is_einsum(equation: str) -> None:
    x, w, dy = operands(equation)
    y, pull = jax.vjp(lambda x, w: jnp.einsum(equation, x, w), x, w)
    found = by_product(equation, "float32", single_device_mesh_context())
    for one, expected in zip(found, (y, *pull(dy)), strict=True):
        np.testing.assert_allclose(one, expected, rtol=1e-6, atol=1e-5)


@pytest.mark.parametrize("equation", EQUATIONS)
def test_in_bf16_gradients_stay_close_and_masters_keep_float32(equation: str) -> None:
    exact = by_product(equation, "float32", single_device_mesh_context())
    found = by_product(equation, "bfloat16", single_device_mesh_context())
    assert [array.dtype for array in found] == [jnp.float32, jnp.bfloat16, jnp.float32]
    for one, expected in zip(found, exact, strict=True):
        error = np.linalg.norm(np.asarray(one, np.float32) - expected)
        assert error / np.linalg.norm(expected) < 0.006  # three roundings of 2^-9 each
    assert np.any(np.asarray(found[2].astype(jnp.bfloat16), np.float32) != found[2])


@pytest.mark.parametrize("equation", EQUATIONS)
def test_a_result_in_bf16_is_the_float32_one_rounded(equation: str) -> None:
    wide = by_product(equation, "bfloat16", single_device_mesh_context())
    found = by_product(equation, "bfloat16", single_device_mesh_context(), "bfloat16")
    assert [array.dtype for array in found] == [jnp.bfloat16, jnp.bfloat16, jnp.float32]
    for one, expected in zip(found, wide, strict=True):
        # Sums in another order may round to the neighbor.
        np.testing.assert_allclose(
            np.asarray(one, np.float32), np.asarray(expected, np.float32), rtol=2**-7, atol=1e-4
        )


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "mesh", [MeshConfig(data=2, fsdp=2, tensor=2), MeshConfig(data=1, fsdp=8), MeshConfig(data=8)]
)
def test_over_a_mesh_gradients_are_the_same_and_lie_as_the_weight(
    mesh: MeshConfig, dtype: str
) -> None:
    mesh_context = make_mesh_context(mesh)
    for equation in EQUATIONS:
        alone = by_product(equation, dtype, single_device_mesh_context())
        found = by_product(equation, dtype, mesh_context)
        for one, expected in zip(found, alone, strict=True):
            # Sums in another order may round a bf16 result to its neighbor.
            near = 1e-4 if one.dtype == jnp.float32 else 0.1
            np.testing.assert_allclose(
                np.asarray(one, np.float32), np.asarray(expected, np.float32), rtol=0.01, atol=near
            )
        x_letters, w_letters = equation.split("->")[0].split(",")
        weight = jax.NamedSharding(
            mesh_context.mesh, mesh_context.rules.spec(weight_axes(w_letters))
        )
        assert found[1].sharding.is_equivalent_to(mesh_context.activation(x_letters), found[1].ndim)
        assert found[2].sharding.is_equivalent_to(weight, found[2].ndim)


def dot_dtypes(call: Any, *arrays: Any) -> list[tuple[str, ...]]:
    """The operand dtypes of every matrix product in a lowered function, inner ones too."""
    text = jax.jit(call).lower(*arrays).as_text()
    return re.findall(
        r"stablehlo.dot_general.*: \(tensor<[^>]*?(\w+)>, tensor<[^>]*?(\w+)>\)", text
    )


def stacked_loss(weights: jax.Array, frozen: jax.Array, x: jax.Array) -> jax.Array:
    """Layers of two products each under scan and remat, as the decoder has them."""

    @jax.checkpoint
    def step(x: jax.Array, layer: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, None]:
        for weight in layer:
            x = jnp.tanh(einsum_fp32_accum("bd,df->bf", x, weight)).astype(x.dtype)
        return x, None

    return jax.lax.scan(step, x, (weights, frozen))[0].astype(jnp.float32).sum()


def test_under_scan_and_remat_every_product_is_in_bf16() -> None:
    w = np.ones((3, 4, 4), np.float32)
    x = np.ones((2, 4), jnp.bfloat16)
    dots = dot_dtypes(jax.grad(stacked_loss, argnums=(0, 1)), w, w, x)
    assert len(dots) >= 6
    assert {dtype.split("x")[-1] for pair in dots for dtype in pair} == {"bf16"}


def test_a_frozen_weight_costs_no_gradient() -> None:
    w, x = np.ones((3, 64, 64), np.float32), np.ones((32, 64), np.float32)

    def dots(argnums: tuple[int, ...]) -> int:
        compiled = jax.jit(jax.grad(stacked_loss, argnums=argnums)).lower(w, w, x).compile()
        return str(compiled.as_text()).count(" dot(")

    assert dots((0, 1)) - dots((0,)) == 1
