"""FLOPs counted in jaxprs."""

import jax
import jax.numpy as jnp

from t1_jax.train.ahead.flops import count_flops

SQUARE = jnp.ones((8, 8))
ONE = 2.0 * 8**3


def flops(function, *, loop_trips: int = 1) -> float:
    return count_flops(jax.jit(function).trace(SQUARE).jaxpr, loop_trips=loop_trips)


def scanned(x: jax.Array) -> jax.Array:
    return jax.lax.scan(lambda carry, _: (carry @ x, None), x, None, length=7)[0]


def looped(x: jax.Array) -> jax.Array:
    return jax.lax.while_loop(lambda carry: carry.sum() < 9, lambda carry: carry @ carry, x)


def branched(x: jax.Array) -> jax.Array:
    return jax.lax.cond(x.sum() > 0, lambda y: y @ y @ y, lambda y: y, x)


def test_products_count_as_often_as_they_run() -> None:
    assert flops(lambda x: x @ x + x) == ONE
    assert flops(lambda x: jax.jit(lambda y: y @ y)(x)) == ONE
    assert flops(scanned) == 7 * ONE
    assert flops(looped, loop_trips=5) == 5 * ONE
    assert flops(branched) == 2 * ONE


def test_recomputation_counts() -> None:
    kept = flops(jax.grad(lambda x: jnp.sum((x @ SQUARE) ** 2)))
    again = flops(jax.grad(jax.checkpoint(lambda x: jnp.sum((x @ SQUARE) ** 2))))
    assert (kept, again) == (2 * ONE, 3 * ONE)


def test_a_body_of_one_device_counts_on_all() -> None:
    mesh = jax.make_mesh((4,), ("rows",), devices=jax.devices()[:4])
    by_rows = jax.shard_map(
        lambda x: x @ SQUARE, mesh=mesh, in_specs=jax.P("rows"), out_specs=jax.P("rows")
    )
    sharding = jax.NamedSharding(mesh, jax.P("rows"))
    rows = jax.ShapeDtypeStruct((8, 8), jnp.float32, sharding=sharding)
    assert count_flops(jax.jit(by_rows).trace(rows).jaxpr) == ONE
