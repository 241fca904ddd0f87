"""A decoder over a mesh of eight virtual devices is the decoder on one."""

from typing import Any

import jax
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError
from t1_jax.model import Decoder, ModelOptions, pool_embeddings
from t1_jax.parallel import MeshConfig, MeshContext, ShardingRules, make_mesh_context
from tests.model.test_cache import decoded
from tests.model.tiny import COMPILE_FAST, TINY, Model, build, tiny, tokens

CONFIG = tiny(qkv_bias=True, out_bias=True, mlp_bias=True, qk_norm=True, windows=(0, 3))
UNTIED = tiny(tie_embeddings=False, num_kv_heads=4)
ROWS = tokens(8, 6)

MESHES = [
    (MeshConfig(data=2, fsdp=2, tensor=2), ShardingRules()),
    (MeshConfig(data=1, fsdp=8), ShardingRules()),
    (MeshConfig(data=8), ShardingRules()),
    (MeshConfig(data=1, tensor=2), ShardingRules()),
    # As a sampler would have it: weights whole over fsdp, rows split over data alone.
    (MeshConfig(data=2, fsdp=2, tensor=2), ShardingRules(batch=("data",), embed=())),
]


def placement_of(mesh: MeshConfig, rules: ShardingRules) -> MeshContext:
    """The mesh, on as many devices as it needs."""
    return make_mesh_context(mesh, rules, jax.devices()[: mesh.data * mesh.fsdp * mesh.tensor])


def logits_and_gradients(model: Model) -> tuple[Any, Any]:
    """Of a loss that reaches every parameter, pooled vectors included."""
    graph, params, rest = nnx.split(model.decoder, nnx.Param, ...)

    def loss(params: nnx.State, ids: jax.Array, at: jax.Array) -> tuple[jax.Array, jax.Array]:
        decoder = nnx.merge(graph, params, rest)
        hidden = decoder(ids)
        logits = decoder.logits(hidden)
        pooled = pool_embeddings(decoder, hidden, at)
        return jax.nn.logsumexp(logits, axis=-1).sum() + pooled[:, 0].sum(), logits

    at = np.arange(8, dtype=np.int32) % 6
    with model.mesh_context.activate():
        compiled = jax.jit(jax.grad(loss, has_aux=True), compiler_options=COMPILE_FAST)
        return compiled(params, model.place(ROWS), model.place(at, "b"))


@pytest.fixture(scope="module")
def alone() -> dict[str, tuple[Any, ...]]:
    """Gradients and logits of two decoders on one device."""
    return {
        "tied": logits_and_gradients(build(CONFIG)),
        "untied": logits_and_gradients(build(UNTIED)),
    }


@pytest.mark.parametrize(
    ("mesh", "rules", "head"),
    [
        (*MESHES[0], "tied"),
        (*MESHES[0], "untied"),
        (*MESHES[1], "tied"),
        (*MESHES[2], "untied"),
        (*MESHES[3], "untied"),
        (*MESHES[4], "tied"),
    ],
)
def test_forward_and_gradients_equal_those_of_one_device(
    mesh: MeshConfig, rules: ShardingRules, head: str, alone: dict[str, tuple[Any, ...]]
) -> None:
    config = {"tied": CONFIG, "untied": UNTIED}[head]
    expected, logits_alone = alone[head]
    model = build(config, placement_of(mesh, rules))
    gradients, logits = logits_and_gradients(model)
    np.testing.assert_allclose(logits, logits_alone, atol=1e-4)
    assert logits.sharding.spec == rules.spec(("batch", "length", "vocab"))
    shardings = nnx.to_pure_dict(nnx.state(model.decoder, nnx.Param))
    for (path, one), other, weight in zip(
        jax.tree.leaves_with_path(nnx.to_pure_dict(gradients)),
        jax.tree.leaves(nnx.to_pure_dict(expected)),
        jax.tree.leaves(shardings),
        strict=True,
    ):
        np.testing.assert_allclose(one, other, atol=1e-3, rtol=1e-3, err_msg=str(path))
        assert one.sharding.is_equivalent_to(weight.sharding, one.ndim), path


@pytest.fixture(scope="module")
def decoded_alone() -> np.ndarray:
    """What one device decodes."""
    return decoded(build(CONFIG))


@pytest.mark.parametrize(("mesh", "rules", "unrolled"), [(*MESHES[i], i == 0) for i in (0, 3, 4)])
def test_decoding_equals_that_of_one_device(
    mesh: MeshConfig, rules: ShardingRules, unrolled: bool, decoded_alone: np.ndarray
) -> None:
    model = build(CONFIG, placement_of(mesh, rules))
    if unrolled:
        with model.mesh_context.activate():
            model = Model(model.decoder.unstack_layers(), model.mesh_context)
    np.testing.assert_allclose(decoded(model), decoded_alone, atol=1e-4)


def test_random_weights_do_not_depend_on_the_mesh() -> None:
    def weights(mesh_context: MeshContext) -> list[np.ndarray]:
        with mesh_context.activate():
            decoder = Decoder(TINY, ModelOptions(), mesh_context, nnx.Rngs(3))
        return [np.asarray(leaf) for leaf in jax.tree.leaves(nnx.state(decoder))]

    one = weights(placement_of(MeshConfig(data=1), ShardingRules()))
    eight = weights(placement_of(*MESHES[0]))
    for leaf, other in zip(one, eight, strict=True):
        np.testing.assert_array_equal(leaf, other)


def test_weights_are_split_as_the_rules_say() -> None:
    params = nnx.to_pure_dict(nnx.state(build(UNTIED, placement_of(*MESHES[0])).decoder, nnx.Param))
    shards = jax.tree.map(lambda leaf: leaf.addressable_shards[0].data.shape, params)
    assert shards["embed"]["table"] == (56 // 4, 16)
    assert shards["head"]["kernel"] == (16, 56 // 4)
    assert shards["blocks"]["attention"]["q"]["kernel"] == (2, 16 // 2, 4 // 2, 6)
    assert shards["blocks"]["mlp"]["down"]["kernel"] == (2, 24 // 2, 16 // 2)
    assert shards["final_norm"]["scale"] == (16 // 2,)


@pytest.mark.parametrize(
    ("changes", "mesh", "message"),
    [
        ({}, MeshConfig(tensor=4), r"attention\.k\.kernel: dimension K .* size 2 .* 4 devices"),
        ({"embed_dim": 12}, MeshConfig(fsdp=8), r"attention_norm\.scale: dimension D .* size 12"),
        ({"vocab_multiple": 1, "vocab_size": 51}, MeshConfig(tensor=2), r"dimension V .* size 51"),
        ({"mlp_dim": 23}, MeshConfig(tensor=2), r"mlp\.gate\.kernel: dimension F .* size 23"),
    ],
)
def test_weights_that_do_not_divide_are_refused_by_name(
    changes: dict[str, Any], mesh: MeshConfig, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        build(tiny(**changes), make_mesh_context(mesh))
