"""Bytes that weights alone make devices send."""

from dataclasses import replace

import jax
import jax.numpy as jnp

from t1_jax.parallel import MeshConfig, MeshContext, make_mesh_context
from t1_jax.train.ahead.abstract import abstract_model
from t1_jax.train.ahead.ideal import WeightPasses, ideal_sent
from t1_jax.train.config import ModelConfig
from tests.train.toy_runs import SHAPE


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


def test_the_vocabulary_stays_where_it_is() -> None:
    """Tokens and hidden states travel instead; a copy for sampling gathers it all the same."""
    mesh_context = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    table = leaf(jax.P(("fsdp", "tensor"), None), mesh_context)
    model = {"embed": {"table": table}, "head": {"kernel": table}, "layers": {"q": table}}
    bf16, of_chip = jnp.dtype("bfloat16"), 16 * 32 / 2
    both = WeightPasses(gathers=2, gradients=True)
    # Gradients are added up between the replicas all the same.
    one = 2 * of_chip * 2 / 2 + of_chip * 4 / 2 + 2 * of_chip / 2 * 4 / 2
    vocabulary = 2 * (2 * of_chip / 2 * 4 / 2)
    assert ideal_sent(model, [], both, mesh_context, bf16) == one + vocabulary
    copied = WeightPasses(gathers=1, gathers_vocabulary=True)
    assert ideal_sent([], model, copied, mesh_context, bf16) == 3 * of_chip * 2 / 2


def test_paths_of_the_vocabulary_are_those_of_a_model() -> None:
    mesh_context = make_mesh_context(MeshConfig(data=1, fsdp=8))
    shape = replace(SHAPE, tie_embeddings=False)
    model = abstract_model(ModelConfig(), shape, mesh_context, "cpu")
    plain = WeightPasses(gathers=1)
    whole = replace(plain, gathers_vocabulary=True)
    sent, all_sent = (
        ideal_sent(model.trained, [], passes, mesh_context, jnp.dtype("float32"))
        for passes in (plain, whole)
    )
    assert all_sent - sent == 2 * shape.padded_vocab_size * shape.embed_dim * 4 * 7 / 8
