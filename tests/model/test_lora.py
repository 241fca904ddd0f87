"""Adapters: nothing at first, W + scale * A B when merged, and the only thing that is trained."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from t1_jax.errors import ConfigError, UnsupportedError
from t1_jax.model import (
    LORA_TARGETS,
    Decoder,
    LoraConfig,
    LoraParam,
    add_lora,
    lora_state,
    merge_lora,
    trainable_filter,
)
from t1_jax.parallel import MeshConfig, make_mesh_context
from tests.model.tiny import COMPILE_FAST, Model, build, tiny, tokens
from tests.tiny import adapted as with_adapter

EMB = 7
TIED = tiny(qkv_bias=True, windows=(0, 3))
UNTIED = tiny(tie_embeddings=False, num_kv_heads=4)
IDS = np.where(tokens(8, 6) % 4 == 0, EMB, tokens(8, 6)).astype(np.int32)


def adapted(model: Model, *, trained: bool = True, **changes: Any) -> Model:
    """The model with an adapter, as if training had moved all of it."""
    config = LoraConfig(**{"rank": 3, "alpha": 6.0, **changes})
    if trained:
        decoder = with_adapter(
            model.decoder, config, model.mesh_context, emb_token_id=EMB, scale=0.2
        )
    else:
        with model.mesh_context.activate():
            decoder = add_lora(model.decoder, config, nnx.Rngs(5), emb_token_id=EMB)
    return Model(decoder, model.mesh_context)


def merged(model: Model) -> Model:
    """The model with its adapter merged."""
    with model.mesh_context.activate():
        return Model(merge_lora(model.decoder), model.mesh_context)


def weights(model: Model) -> dict[str, np.ndarray]:
    """Every parameter by its path."""
    flat = nnx.to_flat_state(nnx.state(model.decoder, nnx.Param))
    return {"/".join(map(str, path)): np.asarray(leaf.get_value()) for path, leaf in flat}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_new_adapter_changes_nothing_bit_for_bit(dtype: str) -> None:
    model = build(UNTIED, dtype=dtype)
    found = adapted(model, trained=False).logits(IDS)
    np.testing.assert_array_equal(found, model.logits(IDS))


@pytest.mark.parametrize("config", [TIED, UNTIED], ids=["tied", "untied"])
def test_merged_equals_unmerged(config: Any) -> None:
    plain = build(config)
    model = adapted(plain)
    logits = model.logits(IDS)
    assert np.abs(logits[..., :50] - plain.logits(IDS)[..., :50]).max() > 1
    np.testing.assert_allclose(merged(model).logits(IDS), logits, atol=1e-3, rtol=1e-4)


def test_merged_weights_are_those_of_the_formula() -> None:
    plain = build(UNTIED)
    model = adapted(plain, targets=("q", "o", "down"), rslora=True)
    before, beside, after = weights(plain), weights(model), weights(merged(model))
    assert set(after) == set(before)
    scale = 6 / np.sqrt(3)
    for path, equation in {
        "blocks/attention/q": "ydr,yrnh->ydnh",
        "blocks/attention/o": "ynhr,yrd->ynhd",
        "blocks/mlp/down": "yfr,yrd->yfd",
    }.items():
        factors = beside[f"{path}/lora/a"], beside[f"{path}/lora/b"]
        expected = before.pop(f"{path}/kernel") + scale * np.einsum(equation, *factors)
        np.testing.assert_allclose(after[f"{path}/kernel"], expected, atol=1e-5)
    table, head = before.pop("embed/table").copy(), before.pop("head/kernel").copy()
    table[EMB] += beside["embed/row/delta"]
    head[:, EMB] += beside["head/row/delta"]
    np.testing.assert_allclose(after["embed/table"], table, atol=1e-6)
    np.testing.assert_allclose(after["head/kernel"], head, atol=1e-6)
    for path, value in before.items():
        np.testing.assert_array_equal(after[path], value, err_msg=path)


def test_a_merged_decoder_is_of_the_same_graph_and_generates() -> None:
    plain = build(TIED)
    model = merged(adapted(plain))
    assert nnx.graphdef(model.decoder) == nnx.graphdef(plain.decoder)
    lengths = model.place(np.full(8, 6, np.int32), "b")
    model.run(lambda decoder, *a: decoder.prefill(*a).lengths, model.place(IDS, "pl"), lengths)
    with model.mesh_context.activate():
        model.decoder.unstack_layers()
    assert merge_lora(plain.decoder) is plain.decoder


def test_neither_adding_nor_merging_touches_the_decoder_it_was_given() -> None:
    plain = build(UNTIED)
    untouched = weights(plain)
    model = adapted(plain)
    beside = weights(model)
    merged(model)
    for before, after in ((untouched, weights(plain)), (beside, weights(model))):
        assert before.keys() == after.keys()
        for path, value in before.items():
            np.testing.assert_array_equal(after[path], value, err_msg=path)


def test_a_model_in_bf16_keeps_its_adapter_in_float32() -> None:
    model = adapted(build(UNTIED, dtype="bfloat16", param_dtype="bfloat16"))
    kinds = {str(leaf.dtype) for leaf in jax.tree.leaves(lora_state(model.decoder))}
    assert kinds == {"float32"}
    assert {str(value.dtype) for value in weights(merged(model)).values()} == {"bfloat16"}


def gradients(model: Model, kind: Any) -> Any:
    """Of a loss that reaches hidden states, logits and the row of `<emb_token>`."""
    graph, trained, rest = nnx.split(model.decoder, kind, ...)

    def loss(trained: nnx.State, ids: jax.Array) -> jax.Array:
        decoder: Decoder = nnx.merge(graph, trained, rest)
        hidden = decoder(ids)
        return jax.nn.logsumexp(decoder.logits(hidden), axis=-1).sum() + jnp.sin(hidden).sum()

    with model.mesh_context.activate():
        compiled = jax.jit(jax.grad(loss), compiler_options=COMPILE_FAST)
        found = compiled(trained, model.place(IDS))
    return {"/".join(map(str, path)): leaf.get_value() for path, leaf in nnx.to_flat_state(found)}


@pytest.mark.parametrize("remat", ["none", "projections"])
def test_gradients_of_the_adapter_follow_from_those_of_the_merged_weights(remat: str) -> None:
    model = adapted(build(UNTIED, remat=remat), alpha=3.0)
    assert trainable_filter(model.decoder) is LoraParam
    found = gradients(model, trainable_filter(model.decoder))
    plain = merged(model)
    assert trainable_filter(plain.decoder) is nnx.Param
    whole = gradients(plain, nnx.Param)
    beside = weights(model)
    assert len(found) == 2 * len(LORA_TARGETS) + 2
    assert set(found) == set(beside) - set(whole)
    kernel, a = whole["blocks/attention/k/kernel"], beside["blocks/attention/k/lora/a"]
    b = beside["blocks/attention/k/lora/b"]
    expected_a = np.einsum("ydkh,yrkh->ydr", kernel, b)  # alpha / rank is 1
    expected_b = np.einsum("ydkh,ydr->yrkh", kernel, a)
    for name, expected in {
        "blocks/attention/k/lora/a": expected_a,
        "blocks/attention/k/lora/b": expected_b,
        "embed/row/delta": whole["embed/table"][EMB],
        "head/row/delta": whole["head/kernel"][:, EMB],
    }.items():
        error = np.linalg.norm(found[name] - expected)
        assert error < 1e-4 * np.linalg.norm(expected), name


@pytest.mark.parametrize("mesh", [MeshConfig(data=2, fsdp=2, tensor=2), MeshConfig(data=1, fsdp=8)])
def test_over_a_mesh_it_is_the_same(mesh: MeshConfig) -> None:
    alone, model = adapted(build(UNTIED)), adapted(build(UNTIED, make_mesh_context(mesh)))
    np.testing.assert_allclose(
        merged(model).logits(IDS), merged(alone).logits(IDS), atol=1e-3, rtol=1e-4
    )
    placed = {
        path: leaf.get_value().sharding
        for path, leaf in (
            ("/".join(map(str, path)), leaf)
            for path, leaf in nnx.to_flat_state(lora_state(model.decoder))
        )
    }
    expected = gradients(alone, LoraParam)
    for path, found in gradients(model, LoraParam).items():
        error = np.linalg.norm(found - np.asarray(expected[path]))
        assert error < 1e-4 * np.linalg.norm(expected[path]), path
        assert found.sharding.is_equivalent_to(placed[path], found.ndim), path
    kernels = nnx.to_flat_state(nnx.state(merged(model).decoder, nnx.Param))
    before = nnx.to_flat_state(nnx.state(build(UNTIED, make_mesh_context(mesh)).decoder, nnx.Param))
    for (path, after), (_, leaf) in zip(kernels, before, strict=True):
        sharding = after.get_value().sharding
        assert sharding.is_equivalent_to(leaf.get_value().sharding, leaf.get_value().ndim), path


def test_factors_are_split_as_the_weight_is_and_the_rank_is_not() -> None:
    model = adapted(build(UNTIED, make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))))
    shards = {
        "/".join(map(str, path[1:])): leaf.get_value().addressable_shards[0].data.shape
        for path, leaf in nnx.to_flat_state(lora_state(model.decoder))
    }
    assert shards["attention/q/lora/a"] == (2, 16 // 2, 3)
    assert shards["attention/q/lora/b"] == (2, 3, 4 // 2, 6)
    assert shards["mlp/down/lora/a"] == (2, 24 // 2, 3)
    assert shards["mlp/down/lora/b"] == (2, 3, 16 // 2)


def test_frozen_weights_cost_no_gradient() -> None:
    model = adapted(build(UNTIED))

    def flops(kind: Any) -> float:
        graph, trained, rest = nnx.split(model.decoder, kind, ...)

        def loss(trained: nnx.State, ids: jax.Array) -> jax.Array:
            return nnx.merge(graph, trained, rest)(ids).sum()

        with model.mesh_context.activate():
            lowered = jax.jit(jax.grad(loss)).lower(trained, model.place(IDS))
            return float((lowered.compile().cost_analysis() or {})["flops"])

    assert flops(LoraParam) < 0.85 * flops(nnx.Param)


def test_a_is_random_by_fan_in_and_does_not_depend_on_the_mesh() -> None:
    config = tiny(embed_dim=64, mlp_dim=128)
    alone = adapted(build(config), trained=False, rank=16)
    eight = adapted(
        build(config, make_mesh_context(MeshConfig(data=1, fsdp=8))), trained=False, rank=16
    )
    one, other = weights(alone), weights(eight)
    for path, value in one.items():
        np.testing.assert_array_equal(other[path], value, err_msg=path)
    assert one["blocks/mlp/gate/lora/a"].std() == pytest.approx(64**-0.5, rel=0.1)
    assert one["blocks/mlp/down/lora/a"].std() == pytest.approx(128**-0.5, rel=0.1)


def test_generation_over_an_unmerged_adapter_is_refused() -> None:
    model = adapted(build(TIED))
    lengths = model.place(np.full(8, 6, np.int32), "b")
    with pytest.raises(UnsupportedError, match="generation needs a decoder without"):
        model.run(lambda decoder, *a: decoder.prefill(*a).lengths, model.place(IDS), lengths)
    with pytest.raises(UnsupportedError, match="unstacking layers"):
        model.decoder.unstack_layers()


def test_what_cannot_be_adapted_is_refused() -> None:
    model = build(TIED)
    with model.mesh_context.activate():
        with pytest.raises(UnsupportedError, match="has an adapter"):
            add_lora(adapted(model).decoder, LoraConfig(), nnx.Rngs(0), emb_token_id=EMB)
        with pytest.raises(UnsupportedError, match="unstacked"):
            add_lora(model.decoder.unstack_layers(), LoraConfig(), nnx.Rngs(0), emb_token_id=EMB)
        for wrong in (None, -1, 50):
            with pytest.raises(ConfigError, match="row of <emb_token> is to be trained"):
                add_lora(model.decoder, LoraConfig(), nnx.Rngs(0), emb_token_id=wrong)
        without = add_lora(model.decoder, LoraConfig(emb_row=False, targets=("v",)), nnx.Rngs(0))
        assert len(jax.tree.leaves(lora_state(without))) == 2


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"rank": 0}, "must be positive"),
        ({"alpha": 0.0}, "must be positive"),
        ({"targets": ("q", "query")}, "got q, query"),
        ({"targets": ("q", "q")}, "each once"),
        ({"targets": ()}, "got none"),
    ],
)
def test_wrong_settings_are_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LoraConfig(**fields)
