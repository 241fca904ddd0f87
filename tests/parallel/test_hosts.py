"""Arrays between hosts and devices: whole on every host, whatever their layout."""

import jax
import jax.numpy as jnp
import numpy as np

from t1_jax.parallel import MeshConfig, all_global_to_host, host_to_global, make_mesh_context


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
