"""Meshes, and arrays on them."""

import math
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import jax
import numpy as np
from jax.experimental import multihost_utils

from t1_jax.errors import ConfigError
from t1_jax.parallel.rules import MESH_AXES, ShardingRules, activation_axes, weight_axes

Tree = TypeVar("Tree")


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """The number of devices along each mesh axis.

    Attributes:
        data: replicas of the model, each with its own rows; -1 takes all remaining devices.
        fsdp: devices over which weights and rows are sharded.
        tensor: devices over which heads, feed-forward units and vocabulary are sharded.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        if self.fsdp < 1 or self.tensor < 1 or (self.data < 1 and self.data != -1):
            raise ConfigError(
                f"mesh sizes must be positive, got data={self.data} fsdp={self.fsdp} "
                f"tensor={self.tensor}",
                hint="only `data` may be -1, to take all remaining devices",
            )


@dataclass(frozen=True)
class MeshContext:
    """A mesh (axes `data`, `fsdp`, `tensor`, all explicit) and the rules that shard over it."""

    mesh: jax.sharding.Mesh
    rules: ShardingRules

    def activate(self) -> AbstractContextManager[object]:
        """A context in which `jax.jit` and `jax.P` use this mesh."""
        return jax.set_mesh(self.mesh)

    def activation(self, letters: str) -> jax.NamedSharding:
        """Sharding of an activation with these dimension letters."""
        return jax.NamedSharding(self.mesh, self.rules.spec(activation_axes(letters)))

    def weight(self, letters: str) -> jax.NamedSharding:
        """Sharding of a weight with these dimension letters."""
        return jax.NamedSharding(self.mesh, self.rules.spec(weight_axes(letters)))

    def replicated(self) -> jax.NamedSharding:
        """Sharding of an array of which every device has a copy."""
        return jax.NamedSharding(self.mesh, jax.P())

    @property
    def batch_divisor(self) -> int:
        """The number of rows of a batch must be a multiple of this."""
        return math.prod(self.mesh.shape[axis] for axis in self.rules.batch)

    def check_weight(self, name: str, letters: str, shape: Sequence[int]) -> None:
        """Rejects a weight that the mesh cannot shard evenly.

        Raises:
            ConfigError: names the dimension, its size, and the number of devices along it.
        """
        table = self.rules.table()
        for letter, axis, size in zip(letters, weight_axes(letters), shape, strict=True):
            devices = math.prod(self.mesh.shape[a] for a in table[axis]) if axis else 1
            if size % devices:
                raise ConfigError(
                    f"{name}: dimension {letter.upper()} ({axis}) of size {size} does not divide "
                    f"over {devices} devices",
                    hint=f"choose a mesh whose {'x'.join(table[axis or ''])} size divides {size}",
                )


def on_mesh(tree: Tree, mesh_context: MeshContext) -> Tree:
    """Shapes with shardings on the real mesh, not on the abstract one they were traced on."""

    def placed(leaf: Any) -> jax.ShapeDtypeStruct:
        spec = leaf.sharding.spec if isinstance(leaf.sharding, jax.NamedSharding) else jax.P()
        sharding = jax.NamedSharding(mesh_context.mesh, spec)
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree.map(placed, tree)


def make_mesh_context(
    mesh: MeshConfig | None = None,
    rules: ShardingRules | None = None,
    devices: Sequence[Any] | None = None,
) -> MeshContext:
    """A mesh of `devices` (default: all) in explicit-sharding mode.

    Raises:
        ConfigError: the sizes do not multiply to the number of devices.
    """
    mesh = mesh or MeshConfig()
    devices = jax.devices() if devices is None else devices
    fixed = mesh.fsdp * mesh.tensor
    data = len(devices) // fixed if mesh.data == -1 else mesh.data
    if data * fixed != len(devices):
        raise ConfigError(
            f"mesh data={mesh.data} fsdp={mesh.fsdp} tensor={mesh.tensor} does not cover "
            f"{len(devices)} devices",
            hint="make the product of the three sizes equal the number of devices",
        )
    jax_mesh = jax.make_mesh((data, mesh.fsdp, mesh.tensor), MESH_AXES, devices=devices)
    return MeshContext(jax_mesh, rules or ShardingRules())


def single_device_mesh_context() -> MeshContext:
    """The first device of this process alone, for a laptop, a notebook or a small test."""
    return make_mesh_context(MeshConfig(data=1), devices=jax.local_devices()[:1])


def default_mesh_context() -> MeshContext:
    """All accelerators of this host along `data`; one device on a CPU.

    Each accelerator holds the whole model. For a model that is too large for that, shard the
    weights: `make_mesh_context(MeshConfig(data=1, fsdp=8))`.
    """
    if jax.default_backend() == "cpu":
        return single_device_mesh_context()
    return make_mesh_context(devices=jax.local_devices())


def host_to_global(array: np.ndarray, sharding: jax.NamedSharding) -> jax.Array:
    """Shards an array over the devices of all processes.

    Every process holds the same array and makes the same calls in the same order.
    """
    if jax.process_count() == 1:
        return jax.device_put(array, sharding)
    return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])


def global_to_host(array: jax.Array) -> np.ndarray:
    """The whole of a sharded array, on every process."""
    if array.is_fully_addressable or array.is_fully_replicated:
        return np.asarray(array)
    return np.asarray(multihost_utils.process_allgather(array, tiled=True))


def all_global_to_host(arrays: Iterable[jax.Array]) -> list[np.ndarray]:
    """`global_to_host` of several arrays; their copies to this host overlap."""
    arrays = list(arrays)
    for array in arrays:
        if array.is_fully_addressable:
            array.copy_to_host_async()
    return [global_to_host(array) for array in arrays]
