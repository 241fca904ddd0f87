"""Meshes of every shape on eight virtual devices, and what does not fit them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.errors import ConfigError
from t1_jax.parallel import (
    MESH_AXES,
    MeshConfig,
    ShardingRules,
    all_global_to_host,
    default_mesh_context,
    host_to_global,
    make_mesh_context,
    single_device_mesh_context,
)


@pytest.mark.parametrize(
    ("mesh", "shape"),
    [
        (None, (8, 1, 1)),
        (MeshConfig(), (8, 1, 1)),
        (MeshConfig(fsdp=2, tensor=2), (2, 2, 2)),
        (MeshConfig(fsdp=8), (1, 8, 1)),
        (MeshConfig(data=1, fsdp=1, tensor=8), (1, 1, 8)),
    ],
)
def test_mesh_covers_all_devices_in_explicit_mode(
    mesh: MeshConfig | None, shape: tuple[int, int, int]
) -> None:
    mesh_context = make_mesh_context(mesh)
    assert mesh_context.mesh.axis_names == MESH_AXES
    assert mesh_context.mesh.devices.shape == shape
    assert set(mesh_context.mesh.axis_types) == {jax.sharding.AxisType.Explicit}


def test_some_devices_may_be_named() -> None:
    mesh_context = make_mesh_context(MeshConfig(tensor=2), devices=jax.devices()[:4])
    assert mesh_context.mesh.devices.shape == (2, 1, 2)


@pytest.mark.parametrize(
    "mesh", [MeshConfig(fsdp=3), MeshConfig(data=3), MeshConfig(tensor=16), MeshConfig(data=16)]
)
def test_sizes_that_do_not_cover_the_devices_are_refused(mesh: MeshConfig) -> None:
    with pytest.raises(ConfigError, match="does not cover 8 devices"):
        make_mesh_context(mesh)


@pytest.mark.parametrize("sizes", [{"data": 0}, {"data": -2}, {"fsdp": 0}, {"tensor": -1}])
def test_sizes_that_are_not_positive_are_refused(sizes: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="must be positive"):
        MeshConfig(**sizes)


def test_single_device() -> None:
    mesh_context = single_device_mesh_context()
    assert mesh_context.mesh.devices.shape == (1, 1, 1)
    assert mesh_context.mesh.devices.item() == jax.devices()[0]
    assert mesh_context.batch_divisor == 1


@pytest.mark.parametrize(
    ("mesh", "rules", "multiple"),
    [
        (MeshConfig(fsdp=2, tensor=2), ShardingRules(), 4),
        (MeshConfig(data=1, tensor=8), ShardingRules(), 1),
        (MeshConfig(fsdp=4), ShardingRules(batch=("data",)), 2),
        (MeshConfig(fsdp=4), ShardingRules(batch=()), 1),
    ],
)
def test_row_multiple_is_what_the_batch_rule_divides_by(
    mesh: MeshConfig, rules: ShardingRules, multiple: int
) -> None:
    assert make_mesh_context(mesh, rules).batch_divisor == multiple


def test_shardings_of_activations() -> None:
    mesh_context = make_mesh_context(MeshConfig(fsdp=2, tensor=2))
    rows = jax.device_put(jax.numpy.zeros((8, 3)), mesh_context.activation("bl"))
    assert rows.addressable_shards[0].data.shape == (2, 3)
    assert mesh_context.replicated().is_fully_replicated


def test_weight_that_does_not_divide_names_dimension_size_and_devices() -> None:
    mesh_context = make_mesh_context(MeshConfig(data=1, fsdp=2, tensor=4))
    mesh_context.check_weight("blocks.attention.q.kernel", "ydnh", (3, 6, 8, 5))
    with pytest.raises(
        ConfigError, match=r"q\.kernel: dimension N \(heads\) of size 6 .* 4 devices\n.*tensor"
    ):
        mesh_context.check_weight("blocks.attention.q.kernel", "ydnh", (3, 6, 6, 5))
    with pytest.raises(ConfigError, match=r"dimension D \(embed\) of size 5 .* 2 devices\n.*fsdp"):
        mesh_context.check_weight("blocks.mlp.gate.kernel", "ydf", (3, 5, 8))
    with pytest.raises(ConfigError, match=r"dimension V \(vocab_rows\) of size 12 .* 8 devices"):
        mesh_context.check_weight("embed.table", "vd", (12, 5))


def test_weight_with_other_rank_than_letters_is_a_fault_of_ours() -> None:
    with pytest.raises(ValueError, match="shorter"):
        single_device_mesh_context().check_weight("x", "vd", (8,))


def test_entered_mesh_is_the_one_in_force() -> None:
    mesh_context = make_mesh_context(MeshConfig(fsdp=2, tensor=2))
    with mesh_context.activate():
        assert jax.sharding.get_abstract_mesh() == mesh_context.mesh.abstract_mesh


def test_accelerators_are_all_used_and_a_posing_cpu_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    assert default_mesh_context().mesh.size == 1
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")
    assert dict(default_mesh_context().mesh.shape) == {"data": 8, "fsdp": 1, "tensor": 1}


def test_several_arrays_come_back_whole_and_in_order():
    mesh_context = make_mesh_context(MeshConfig(data=2, fsdp=2, tensor=2))
    table = np.arange(32, dtype=np.float32).reshape(8, 4)
    split = host_to_global(table, mesh_context.activation("bd"))
    found = all_global_to_host(
        [split, jnp.arange(3), jax.device_put(table, mesh_context.replicated())]
    )
    np.testing.assert_array_equal(found[0], table)
    assert found[1].tolist() == [0, 1, 2]
    np.testing.assert_array_equal(found[2], table)
