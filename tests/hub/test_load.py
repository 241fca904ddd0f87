"""Weights into device memory: exact, streamed, sharded, and every misfit reported at once."""

import tracemalloc
from collections.abc import Collection

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from t1_jax.errors import UnsupportedError, WeightsError
from t1_jax.hub import load
from t1_jax.hub.load import check_tensors, load_decoder_state
from t1_jax.hub.safetensors_source import SafetensorsSource
from t1_jax.hub.weight_map import expected_tensors

WHOLE = {"qkv_bias": True, "out_bias": True, "mlp_bias": True, "qk_norm": True}


class FakeSource:
    """Tensors that live nowhere until they are read."""

    def __init__(self, tensors, dtype=np.float32) -> None:
        self.tensors, self.stored = tensors, np.dtype(dtype)

    def names(self) -> Collection[str]:
        return self.tensors.keys()

    def shape(self, name: str) -> tuple[int, ...]:
        return np.shape(self.tensors[name])

    def dtype(self, name: str) -> np.dtype:
        return self.stored

    def read(self, name: str) -> np.ndarray:
        return np.array(self.tensors[name], self.stored)

    def location(self, name: str) -> str:
        return f"tensor {name} in fake"


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_every_parameter_holds_its_tensors(
    tmp_path, tiny_config, random_tensors, abstract, write_folder, tied: bool, dtype: str
) -> None:
    config = tiny_config(tie_embeddings=tied, **WHOLE)
    tensors = random_tensors(config, dtype)
    folder = tmp_path / "model"
    folder.mkdir()
    save_file(tensors, folder / "model.safetensors")
    state = load_decoder_state(SafetensorsSource(folder), config, abstract(config, dtype))
    assert {path: leaf.dtype for path, leaf in state.items()} == {
        path: leaf.dtype for path, leaf in abstract(config, dtype).items()
    }
    np.testing.assert_array_equal(state["embed/table"][:37], tensors["model.embed_tokens.weight"])
    assert not np.any(state["embed/table"][37:])
    q = tensors["model.layers.2.self_attn.q_proj.weight"]
    np.testing.assert_array_equal(
        state["blocks/attention/q/kernel"][2].reshape(12, 16), q.transpose()
    )
    down = tensors["model.layers.1.mlp.down_proj.weight"]
    np.testing.assert_array_equal(state["blocks/mlp/down/kernel"][1], down.transpose())
    if not tied:
        np.testing.assert_array_equal(
            state["head/kernel"][:, :37], tensors["lm_head.weight"].transpose()
        )
        assert not np.any(state["head/kernel"][:, 37:])


@pytest.mark.parametrize("host_bytes", [0, 2**20], ids=["on the devices", "on the host"])
def test_sharded_over_eight_devices_holds_the_same(
    tiny_config, random_tensors, abstract, monkeypatch, host_bytes: int
) -> None:
    config = tiny_config(tie_embeddings=False, **WHOLE)
    source = FakeSource(random_tensors(config))
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
    specs = {
        "embed/table": jax.P("tensor", "fsdp"),
        "head/kernel": jax.P("fsdp", "tensor"),
        "blocks/attention/q/kernel": jax.P(None, "fsdp", "tensor"),
        "blocks/mlp/down/kernel": jax.P(None, "tensor", "fsdp"),
    }
    leaves = abstract(config)
    placed = {
        path: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, specs.get(path, jax.P()))
        )
        for path, leaf in leaves.items()
    }
    alone = load_decoder_state(source, config, leaves)
    monkeypatch.setattr(load, "_HOST_BYTES", host_bytes)
    with jax.set_mesh(mesh):
        spread = load_decoder_state(source, config, placed)
    for path, leaf in alone.items():
        assert spread[path].sharding.is_equivalent_to(placed[path].sharding, leaf.ndim)
        np.testing.assert_array_equal(leaf, spread[path], err_msg=path)


def test_the_host_never_holds_a_large_stacked_parameter(tiny_config, abstract, monkeypatch) -> None:
    monkeypatch.setattr(load, "_HOST_BYTES", 2**20)
    config = tiny_config(num_layers=24, mlp_dim=20_000, embed_dim=16)
    layer_bytes = 4 * config.mlp_dim * config.embed_dim

    class Streamed(FakeSource):
        """Every tensor made when it is read, so that only what is held counts."""

        def shape(self, name: str) -> tuple[int, ...]:
            return expected[name]

        def read(self, name: str) -> np.ndarray:
            return np.ones(expected[name], np.float32)

    expected = expected_tensors(config)
    source = Streamed(dict.fromkeys(expected))
    leaves = abstract(config)
    load_decoder_state(source, config, leaves)  # compiled now
    tracemalloc.start()
    state = jax.block_until_ready(load_decoder_state(source, config, leaves))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert state["blocks/mlp/down/kernel"].nbytes == 24 * layer_bytes
    assert peak < 4 * layer_bytes


def test_all_misfits_are_reported_at_once(tiny_config, random_tensors) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    del tensors["model.layers.1.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = np.zeros(16)
    tensors["model.layers.2.self_attn.o_proj.weight"] = np.zeros((16, 12))
    with pytest.raises(WeightsError) as caught:
        check_tensors(FakeSource(tensors), config)
    message = str(caught.value)
    assert "(3 mismatches)" in message
    assert "missing: model.layers.1.mlp.up_proj.weight (20, 12)" in message
    assert "unexpected: tensor model.layers.0.self_attn.q_proj.bias in fake" in message
    assert "misshapen: tensor model.layers.2.self_attn.o_proj.weight in fake is (16, 12)" in message


def test_harmless_extras_are_tolerated(tiny_config, random_tensors) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = np.zeros(2)
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    check_tensors(FakeSource(tensors), config)


def test_a_tied_head_that_differs_in_one_bit_is_refused(tiny_config, random_tensors) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    head = tensors["model.embed_tokens.weight"].copy()
    head[30, 3] = np.nextafter(head[30, 3], np.float32(9))
    tensors["lm_head.weight"] = head
    with pytest.raises(WeightsError, match=r"unexpected: tensor lm_head\.weight"):
        check_tensors(FakeSource(tensors), config)


def test_a_head_that_is_missing_is_said_so(tiny_config, random_tensors) -> None:
    config = tiny_config(tie_embeddings=False)
    tensors = random_tensors(config)
    del tensors["lm_head.weight"]
    with pytest.raises(WeightsError, match=r"has no lm_head\.weight, .* cannot think"):
        check_tensors(FakeSource(tensors), config)


def test_values_beyond_the_dtype_are_refused_by_tensor(
    tiny_config, random_tensors, abstract
) -> None:
    config = tiny_config()
    tensors = random_tensors(config)
    big = ["model.norm.weight", "model.layers.1.mlp.up_proj.weight"]
    for name in big:
        tensors[name].flat[3] = -70_000
    source = FakeSource(tensors)
    load_decoder_state(source, config, abstract(config, "bfloat16"))
    with pytest.raises(WeightsError, match="2 tensors have values .* float16") as caught:
        load_decoder_state(source, config, abstract(config, "float16"))
    assert all(f"tensor {name} in fake" in str(caught.value) for name in big)


def test_a_very_long_list_of_misfits_is_cut(tiny_config) -> None:
    with pytest.raises(WeightsError, match=r"\(112 mismatches\):\n(.*\n){50}  and 62 more"):
        check_tensors(FakeSource({}), tiny_config(num_layers=10, qk_norm=True))


def test_a_vocabulary_may_grow_or_shrink(tiny_config, random_tensors, abstract) -> None:
    config = tiny_config()
    source = FakeSource(random_tensors(config))
    table = source.read("model.embed_tokens.weight")
    for rows in (30, 48):
        leaves = abstract(config)
        leaves["embed/table"] = jax.ShapeDtypeStruct((rows, 12), jnp.float32)
        loaded = load_decoder_state(source, config, leaves)["embed/table"]
        np.testing.assert_array_equal(loaded[: min(rows, 37)], table[:rows])
        assert not np.any(loaded[37:])


def test_parameters_of_another_shape_are_refused(tiny_config, random_tensors, abstract) -> None:
    config = tiny_config()
    leaves = abstract(config)
    del leaves["final_norm/scale"]
    leaves["extra"] = leaves["embed/table"]
    leaves["blocks/mlp/up/kernel"] = jax.ShapeDtypeStruct((3, 12, 24), jnp.float32)
    with pytest.raises(WeightsError) as caught:
        load_decoder_state(FakeSource(random_tensors(config)), config, leaves)
    assert "final_norm/scale has no parameter" in str(caught.value)
    assert "extra has no rule" in str(caught.value)
    assert "blocks/mlp/up/kernel is (3, 12, 24), expected (3, 12, 20)" in str(caught.value)


def test_splitting_along_the_layers_is_refused(tiny_config, random_tensors, abstract) -> None:
    config = tiny_config(num_layers=8)
    mesh = jax.make_mesh((8,), ("stage",))
    leaves = {
        path: jax.ShapeDtypeStruct(
            leaf.shape, leaf.dtype, sharding=jax.NamedSharding(mesh, jax.P("stage"))
        )
        for path, leaf in abstract(config).items()
        if path.startswith("blocks/")
    } | {path: leaf for path, leaf in abstract(config).items() if "blocks/" not in path}
    with pytest.raises(UnsupportedError, match="sharded along its layers"), jax.set_mesh(mesh):
        load_decoder_state(FakeSource(random_tensors(config)), config, leaves)
