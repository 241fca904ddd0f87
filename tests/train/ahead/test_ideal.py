"""Bytes that weights alone make devices send."""

import jax
import jax.numpy as jnp

from t1_jax.parallel import MeshConfig, MeshContext, make_mesh_context
from t1_jax.train.ahead.ideal import WeightPasses, ideal_sent


def leaf(spec: jax.P, mesh_context: MeshContext) -> jax.ShapeDtypeStruct:
    sharding = jax.NamedSharding(mesh_context.mesh, spec)
    return jax.ShapeDtypeStruct((16, 32), jnp.float32, sharding=sharding)


def test_weights_are_gathered_and_gradients_scattered() -> None:
    mesh_context = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    weight = leaf(jax.P("fsdp", "tensor"), mesh_context)
    forward, both = WeightPasses(gathers=1), WeightPasses(gathers=2, gradients=True)
    of_chip, bf16 = 16 * 32 / 2, jnp.dtype("bfloat16")
    assert ideal_sent([weight], [], forward, mesh_context, bf16) == of_chip * 2 / 2
    # Two gathers in bf16, a share of the float32 sum, and an all-reduce of that between replicas.
    scattered, reduced = of_chip * 4 / 2, 2 * of_chip / 2 * 4 / 2
    expected = 2 * of_chip * 2 / 2 + scattered + reduced
    assert ideal_sent([weight], [], both, mesh_context, bf16) == expected
    assert ideal_sent([], [weight], both, mesh_context, bf16) == 2 * of_chip * 2 / 2


def test_whole_weights_on_one_device_send_nothing() -> None:
    mesh_context = make_mesh_context(MeshConfig(data=1), devices=jax.devices()[:1])
    weight = leaf(jax.P("fsdp", "tensor"), mesh_context)
    both = WeightPasses(gathers=2, gradients=True)
    assert ideal_sent([weight], [], both, mesh_context, jnp.dtype("bfloat16")) == 0
