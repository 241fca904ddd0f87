"""Meshes, placements and multi-host start-up."""

import math
import os
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import jax

from t1_jax.errors import ConfigError
from t1_jax.parallel.rules import MESH_AXES, ShardingRules, activation_axes, weight_axes


@dataclass(frozen=True, kw_only=True)
class MeshConfig:
    """How many devices stand along each mesh axis.

    Attributes:
        data: copies of the model that see different rows; -1 takes all devices that are left.
        fsdp: devices over which weights and rows are split.
        tensor: devices over which heads, feed-forward units and vocabulary are split.
    """

    data: int = -1
    fsdp: int = 1
    tensor: int = 1

    def __post_init__(self) -> None:
        if self.fsdp < 1 or self.tensor < 1 or (self.data < 1 and self.data != -1):
            raise ConfigError(
                f"mesh sizes must be positive, got data={self.data} fsdp={self.fsdp} "
                f"tensor={self.tensor}",
                hint="use -1 for `data` alone, to take all devices that are left",
            )


@dataclass(frozen=True)
class MeshContext:
    """A mesh and the rules that lay arrays over it.

    Attributes:
        mesh: axes `data`, `fsdp`, `tensor`, all in explicit mode.
        rules: logical axis -> mesh axes.
    """

    mesh: jax.sharding.Mesh
    rules: ShardingRules

    def activate(self) -> AbstractContextManager[object]:
        """The context in which this mesh is the one that `jax.jit` and `jax.P` refer to."""
        return jax.set_mesh(self.mesh)

    def activation(self, letters: str) -> jax.NamedSharding:
        """Sharding of an activation whose dimensions are these glossary letters."""
        return jax.NamedSharding(self.mesh, self.rules.spec(activation_axes(letters)))

    def replicated(self) -> jax.NamedSharding:
        """Sharding of an array that every device holds whole."""
        return jax.NamedSharding(self.mesh, jax.P())

    @property
    def batch_divisor(self) -> int:
        """Batches must have a multiple of this many rows."""
        return math.prod(self.mesh.shape[axis] for axis in self.rules.batch)

    def check_weight(self, name: str, letters: str, shape: Sequence[int]) -> None:
        """Refuses a weight that the mesh cannot split evenly.

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


def make_mesh_context(
    mesh: MeshConfig | None = None,
    rules: ShardingRules | None = None,
    devices: Sequence[Any] | None = None,
) -> MeshContext:
    """Lays `devices` (default: all) out as a mesh in explicit-sharding mode.

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
    """The first device alone: what a laptop, a notebook or a small test wants."""
    return make_mesh_context(MeshConfig(data=1), devices=jax.devices()[:1])


def default_mesh_context() -> MeshContext:
    """All accelerators of this host along `data`; on a CPU, which may pose as several, one device.

    Each accelerator then holds the whole model. One that is too large for that needs a mesh of its
    own: `make_mesh_context(MeshConfig(data=1, fsdp=8))`.
    """
    if jax.default_backend() == "cpu":
        return single_device_mesh_context()
    return make_mesh_context(devices=jax.local_devices())


def start_multi_host() -> None:
    """Joins the other processes of a job; call before anything else touches JAX.

    Does nothing unless the launcher set `JAX_COORDINATOR_ADDRESS` or `T1_MULTI_HOST=1` (Cloud
    TPU pods find each other by their metadata and need no address).
    """
    wanted = os.environ.get("T1_MULTI_HOST") == "1" or "JAX_COORDINATOR_ADDRESS" in os.environ
    if wanted and not jax.distributed.is_initialized():
        jax.distributed.initialize()
