"""A state's leaves have names of their own, and come back under them."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from t1_jax.train.infra.pytree_io import abstract_like, described, named, rebuilt


def test_leaves_are_named_by_their_path() -> None:
    state = {"a": [jnp.ones(2), {"b": jnp.zeros((0, 3))}], "key": jax.random.key(3, impl="rbg")}
    leaves = named(state)
    assert {name: leaf.dtype.name for name, leaf in leaves.items()} == {
        "a/0": "float32",
        "key": "uint32",
    }
    again = rebuilt(abstract_like(state), leaves)
    assert jax.tree.structure(again) == jax.tree.structure(state)
    assert again["a"][1]["b"].shape == (0, 3)
    assert again["key"].dtype == state["key"].dtype
    np.testing.assert_array_equal(
        jax.random.bits(again["key"], (3,)), jax.random.bits(state["key"], (3,))
    )


def test_what_is_described_is_what_is_written() -> None:
    state = {"w": jnp.ones((2, 3), jnp.bfloat16), "keys": jax.random.split(jax.random.key(0), 4)}
    written, told = named(state), described(abstract_like(state))
    assert written.keys() == told.keys()
    for name, leaf in written.items():
        assert (leaf.shape, leaf.dtype) == (told[name].shape, told[name].dtype)
        assert told[name].sharding is not None


def test_a_leaf_without_a_sharding_is_refused() -> None:
    with pytest.raises(ValueError, match="w has no sharding"):
        described({"w": jax.ShapeDtypeStruct((2,), jnp.float32)})


def test_leaves_that_share_a_name_are_refused() -> None:
    with pytest.raises(ValueError, match="share a name"):
        named({"a/b": jnp.ones(1), "a": {"b": jnp.ones(1)}})
