"""The table and head over a mesh: what is looked up, logits, and what travels for them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.model import take_positions
from t1_jax.model.vocabulary import look_up, parallel_axes
from t1_jax.parallel import (
    MeshConfig,
    MeshContext,
    ShardingRules,
    activation_axes,
    make_mesh_context,
    weight_axes,
)
from t1_jax.train.ahead.hlo import collectives
from tests.model.tiny import COMPILE_FAST, build, tiny

VOCAB, DIM, ROWS, LENGTH = 48, 16, 8, 5
RULES = {
    "weights and rows over fsdp": (MeshConfig(data=2, fsdp=2, tensor=2), ShardingRules()),
    "whole weights": (MeshConfig(data=2, fsdp=4), ShardingRules(embed=())),
    "rows over data alone": (
        MeshConfig(data=2, fsdp=2, tensor=2), ShardingRules(batch=("data",), embed=("fsdp",)),
    ),
    "nothing over the mesh": (
        MeshConfig(data=8), ShardingRules(embed=(), vocab=()),
    ),
}  # fmt: skip


def placed(array: np.ndarray, spec: jax.P, mesh_context: MeshContext) -> jax.Array:
    return jax.device_put(array, jax.NamedSharding(mesh_context.mesh, spec))


@pytest.mark.parametrize("name", RULES)
def test_tokens_are_looked_up_wherever_their_rows_are(name: str) -> None:
    mesh_context = make_mesh_context(*RULES[name])
    rules = mesh_context.rules
    generator = np.random.default_rng(0)
    table = generator.standard_normal((VOCAB, DIM), np.float32)
    tokens = generator.integers(0, VOCAB, (ROWS, LENGTH)).astype(np.int32)
    weights = generator.standard_normal((ROWS, LENGTH, DIM), np.float32)

    def loss(
        table: jax.Array, tokens: jax.Array, weights: jax.Array
    ) -> tuple[jax.Array, jax.Array]:
        rows = look_up(table, tokens, rules, jnp.dtype("float32"))
        return jnp.sum(rows * weights), rows

    with mesh_context.activate():
        gradient, rows = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE_FAST)(
            placed(table, rules.spec(weight_axes("vd")), mesh_context),
            jax.device_put(tokens, mesh_context.activation("bl")),
            jax.device_put(weights, mesh_context.activation("bld")),
        )
    np.testing.assert_array_equal(rows, table[tokens])
    assert rows.sharding.spec == rules.spec(activation_axes("bld"))
    expected = np.zeros_like(table)
    np.add.at(expected, tokens, weights)
    np.testing.assert_allclose(gradient, expected, atol=1e-5)


def test_the_vocabulary_of_a_loss_divides_over_all_rows_where_it_can() -> None:
    rules, sizes = ShardingRules(), {"data": 2, "fsdp": 4, "tensor": 1}
    assert parallel_axes(rules, sizes, 48) == ("fsdp", "tensor", "data")
    assert parallel_axes(rules, sizes, 44) == ("fsdp", "tensor")


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("name", ["weights and rows over fsdp", "whole weights"])
def test_logits_of_a_loss_are_the_logits(name: str, tied: bool) -> None:
    model = build(tiny(tie_embeddings=tied), make_mesh_context(*RULES[name]))
    hidden = np.random.default_rng(0).standard_normal((ROWS, 3, DIM)).astype(np.float32)
    found = model.run(
        lambda decoder, hidden: decoder.vocab_parallel_logits()(hidden),
        model.place(hidden, "bld"),
    )
    expected = model.run(lambda decoder, hidden: decoder.logits(hidden), model.place(hidden, "bld"))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found.sharding.shard_shape(found.shape)[0] == ROWS  # rows are whole, the vocabulary not


def test_neither_table_nor_its_gradient_travels() -> None:
    config = tiny(vocab_size=4096, vocab_multiple=128)
    mesh_context = make_mesh_context(MeshConfig(data=1, fsdp=8))
    decoder = build(config, mesh_context).decoder
    graph, params, rest = nnx.split(decoder, nnx.Param, ...)

    def loss(params: nnx.State, hidden: jax.Array, tokens: jax.Array) -> jax.Array:
        decoder = nnx.merge(graph, params, rest)
        rows = look_up(decoder.embed.table[...], tokens, decoder.rules, jnp.dtype("float32"))
        logits = decoder.vocab_parallel_logits()(hidden + rows)
        return jnp.sum(jax.nn.logsumexp(logits, axis=-1))

    with mesh_context.activate():
        hidden = jax.ShapeDtypeStruct(
            (ROWS, 2, DIM), jnp.float32, sharding=mesh_context.activation("bld")
        )
        tokens = jax.ShapeDtypeStruct((ROWS, 2), jnp.int32, sharding=mesh_context.activation("bl"))
        lowered = jax.jit(jax.grad(loss), compiler_options=COMPILE_FAST).lower(
            params, hidden, tokens
        )
    sent = sum(each.sent for each in collectives(lowered.compile().as_text() or "", 8))
    assert 0 < sent < 0.1 * 4 * config.padded_vocab_size * DIM


def test_states_are_taken_at_positions_of_their_own_rows() -> None:
    mesh_context = make_mesh_context(MeshConfig(data=2, fsdp=4))
    hidden = np.random.default_rng(0).standard_normal((ROWS, LENGTH, DIM)).astype(np.float32)
    positions = np.arange(2 * ROWS, dtype=np.int32).reshape(ROWS, 2) % LENGTH
    with mesh_context.activate():
        taken = jax.jit(take_positions, static_argnums=2)
        arrays = (
            jax.device_put(hidden, mesh_context.activation("bld")),
            jax.device_put(positions, mesh_context.activation("bl")),
        )
        text = taken.lower(*arrays, mesh_context.rules).compile().as_text()
        found = taken(*arrays, mesh_context.rules)
    np.testing.assert_array_equal(found, hidden[np.arange(ROWS)[:, None], positions])
    assert collectives(text or "", 8) == []
