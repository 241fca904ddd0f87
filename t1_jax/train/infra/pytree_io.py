"""A pytree as a flat dict of named arrays, independent of the containers that hold them."""

import math
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp


def abstract_like(state: Any) -> Any:
    """The `jax.ShapeDtypeStruct`s, shardings included, of a state's arrays."""
    return jax.tree.map(
        lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=leaf.sharding), state
    )


def _names(tree: Any) -> list[str]:
    """A unique name for every leaf."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(tree)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    if len(set(names)) != len(names):
        raise ValueError(f"leaves of the state share a name: {names}")
    return names


def named(state: Any) -> dict[str, jax.Array]:
    """Path -> array to write; PRNG keys as plain integers."""
    leaves = map(_without_key_type, jax.tree.leaves(state))
    return _without_empty(dict(zip(_names(state), leaves, strict=True)))


def _without_empty(leaves: Mapping[str, Any]) -> dict[str, Any]:
    """The leaves without empty arrays, which Orbax cannot store."""
    return {name: leaf for name, leaf in leaves.items() if math.prod(leaf.shape)}


def described(abstract: Any) -> dict[str, jax.ShapeDtypeStruct]:
    """Shapes, dtypes and shardings of the arrays that `named` returns for such a state.

    Raises:
        ValueError: a leaf has no sharding.
    """
    leaves = jax.tree.leaves(abstract)
    for name, leaf in zip(_names(abstract), leaves, strict=True):
        if leaf.sharding is None:
            raise ValueError(f"{name} has no sharding, so it cannot be placed")
    plain = [
        jax.ShapeDtypeStruct(data.shape, data.dtype, sharding=leaf.sharding)
        for leaf in leaves
        for data in [jax.eval_shape(_without_key_type, leaf)]
    ]
    return _without_empty(dict(zip(_names(abstract), plain, strict=True)))


def differences(saved: Mapping[str, Any], wanted: Mapping[str, Any]) -> list[str]:
    """Messages about names, shapes and dtypes that differ between two sets of arrays."""
    faults = [f"{name} is missing" for name in sorted(wanted.keys() - saved.keys())]
    faults += [f"{name} is not expected" for name in sorted(saved.keys() - wanted.keys())]
    for name in sorted(wanted.keys() & saved.keys()):
        has, expected = (f"{leaf.dtype}{list(leaf.shape)}" for leaf in (saved[name], wanted[name]))
        if has != expected:
            faults.append(f"{name} has {has}, expected {expected}")
    return faults


def rebuilt(abstract: Any, loaded: Mapping[str, jax.Array]) -> Any:
    """The state with arrays that were read; the inverse of `named`."""
    leaves = []
    for name, leaf in zip(_names(abstract), jax.tree.leaves(abstract), strict=True):
        if name not in loaded:
            leaves.append(jnp.zeros(leaf.shape, leaf.dtype, device=leaf.sharding))
        elif jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            leaves.append(jax.random.wrap_key_data(loaded[name], impl=_key_impl(leaf)))
        else:
            leaves.append(loaded[name])
    return jax.tree.unflatten(jax.tree.structure(abstract), leaves)


def _without_key_type(leaf: jax.Array) -> jax.Array:
    is_key = jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
    return jax.random.key_data(leaf) if is_key else leaf


def _key_impl(leaf: jax.ShapeDtypeStruct) -> Any:
    """The PRNG implementation of an abstract key, which only a traced key knows."""
    impls: list[Any] = []
    jax.eval_shape(lambda key: impls.append(jax.random.key_impl(key)), leaf)
    return impls[0]
