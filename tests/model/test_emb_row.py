import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.model import fill_emb_row


@pytest.mark.parametrize("axis", [0, 1])
def test_a_new_row_is_the_mean_of_the_used_ones(axis: int) -> None:
    table = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
    used = np.arange(16) < 10
    leaf = jnp.array(table if axis == 0 else table.T)
    filled = np.asarray(fill_emb_row(leaf, jnp.array(used), 4, axis))
    filled = filled if axis == 0 else filled.T
    others = [row for row in range(10) if row != 4]
    np.testing.assert_allclose(filled[4], table[others].mean(0), rtol=1e-5)
    np.testing.assert_array_equal(np.delete(filled, 4, 0), np.delete(table, 4, 0))


def test_a_new_row_in_a_sharded_table() -> None:
    mesh = jax.make_mesh((2, 4), ("fsdp", "tensor"))
    table = np.random.default_rng(0).standard_normal((16, 6)).astype(np.float32)
    used = np.arange(16) < 10
    with jax.set_mesh(mesh):
        sharding = jax.NamedSharding(mesh, jax.P("tensor", "fsdp"))
        filled = fill_emb_row(jax.device_put(table, sharding), jnp.array(used), 12)
        assert filled.sharding == sharding
    np.testing.assert_allclose(np.asarray(filled)[12], table[:10].mean(0), rtol=1e-5)
