"""Chips, and the slices and hosts of them that clouds rent, by name; no hardware is needed."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jax

from t1_jax.errors import ConfigError, UnsupportedError

_GIB = 2**30


@dataclass(frozen=True, kw_only=True)
class Chip:
    """A device, as its data sheet and https://jax-ml.github.io/scaling-book describe it.

    Attributes:
        name: name in topologies.
        platform: whose compiler makes its programs.
        memory: bytes of memory that a program may use.
        peak_flops: dense bfloat16 FLOP/s; None if unknown.
        memory_bandwidth: bytes/s between memory and cores; None if unknown.
        link_bandwidth: bytes/s one way over a link to a neighbor, of a GPU over all of its links;
            None if unknown.
    """

    name: str
    platform: Literal["tpu", "gpu", "cpu"]
    memory: int
    peak_flops: float | None
    memory_bandwidth: float | None
    link_bandwidth: float | None


CHIPS: Mapping[str, Chip] = {
    chip.name: chip
    for chip in (
        Chip(
            name="v5e", platform="tpu", memory=int(15.75 * _GIB), peak_flops=197e12,
            memory_bandwidth=819e9, link_bandwidth=45e9,
        ),
        Chip(
            name="v5p", platform="tpu", memory=95 * _GIB, peak_flops=459e12,
            memory_bandwidth=2765e9, link_bandwidth=90e9,
        ),
        Chip(
            name="v6e", platform="tpu", memory=int(31.25 * _GIB), peak_flops=918e12,
            memory_bandwidth=1640e9, link_bandwidth=90e9,
        ),
        Chip(
            name="h100", platform="gpu", memory=80 * 10**9, peak_flops=989e12,
            memory_bandwidth=3350e9, link_bandwidth=450e9,
        ),
        Chip(
            name="h200", platform="gpu", memory=141 * 10**9, peak_flops=989e12,
            memory_bandwidth=4800e9, link_bandwidth=450e9,
        ),
        Chip(
            name="cpu", platform="cpu", memory=16 * _GIB, peak_flops=None,
            memory_bandwidth=None, link_bandwidth=None,
        ),
    )
}  # fmt: skip

_FLAT = {
    4: "2x2", 8: "2x4", 16: "4x4", 32: "4x8", 64: "8x8", 128: "8x16", 256: "16x16",
}  # fmt: skip
# A v5p is named by its TensorCores, of which a chip has two.
_CUBES = {8: "2x2x1", 16: "2x2x2", 32: "2x2x4", 64: "2x4x4", 128: "4x4x4"}
_SLICES: Mapping[str, Mapping[int, str]] = {"v5e": _FLAT, "v6e": _FLAT, "v5p": _CUBES}
# A v5e or v6e has a ring along an axis of this many chips, a v5p along all axes of whole cubes.
_RING, _CUBE = 16, 4
_LARGEST_HOST = 64


@dataclass(frozen=True, kw_only=True)
class Topology:
    """A slice of TPU chips, a host of GPUs, or virtual CPU devices.

    Attributes:
        name: as a user writes it, such as `v5e-16` or `h100-8`.
        chip: its devices.
        num_devices: number of devices.
        shape: how TPU chips are connected, such as `4x4`; empty elsewhere.
    """

    name: str
    chip: Chip
    num_devices: int
    shape: str = ""

    @property
    def links(self) -> int:
        """Links to neighbors of the chip that has fewest: at an end of every axis without a ring.

        Source: https://jax-ml.github.io/scaling-book/tpus, "TPU networking".
        """
        if not self.shape:
            return 1
        axes = [int(size) for size in self.shape.split("x")]
        if _SLICES[self.chip.name] is _CUBES:
            rings = [all(size % _CUBE == 0 for size in axes)] * len(axes)
        else:
            rings = [size == _RING for size in axes]
        ends = (min(size - 1, 2 if ring else 1) for size, ring in zip(axes, rings, strict=True))
        return sum(ends)

    def devices(self) -> Sequence[Any]:
        """Devices to compile for: descriptions of TPU chips, and CPU devices for all others.

        Raises:
            UnsupportedError: libtpu is not installed, or this process has too few CPU devices.
        """
        if self.chip.platform == "tpu":
            return _tpu_devices(self)
        devices = jax.devices("cpu")
        if len(devices) < self.num_devices:
            raise UnsupportedError(
                f"{self.name} needs {self.num_devices} virtual CPU devices, and JAX started with "
                f"{len(devices)}",
                hint=f"set JAX_NUM_CPU_DEVICES={self.num_devices}",
            )
        return devices[: self.num_devices]


def find_topology(name: str) -> Topology:
    """The topology of a name, such as `v5e-16`, `v5p-8`, `h100-8` or `cpu-8`.

    Raises:
        ConfigError: an unknown chip, or a size in which it is not rented.
    """
    match = re.fullmatch(r"(\w+)-(\d+)", name)
    if match is None or match[1] not in CHIPS:
        raise ConfigError(
            f"unknown topology {name!r}; known chips are {', '.join(CHIPS)}",
            hint="write a chip and a size, as in v5e-16, v5p-8, h100-8 or cpu-8",
        )
    chip, size = CHIPS[match[1]], int(match[2])
    sizes = _SLICES.get(chip.name)
    if sizes is None:
        if not 1 <= size <= _LARGEST_HOST:
            raise ConfigError(f"{name}: the number of devices must be from 1 to {_LARGEST_HOST}")
        return Topology(name=name, chip=chip, num_devices=size)
    if size not in sizes:
        raise ConfigError(
            f"{chip.name} is rented in slices of {', '.join(map(str, sizes))}, not {size}",
            hint=f"for example {chip.name}-{min(sizes, key=lambda known: abs(known - size))}",
        )
    num_devices = size // 2 if sizes is _CUBES else size
    return Topology(name=name, chip=chip, num_devices=num_devices, shape=sizes[size])


def _tpu_devices(topology: Topology) -> Sequence[Any]:
    from jax.experimental import topologies

    # Otherwise libtpu asks the metadata server of Google Cloud, for minutes.
    os.environ.setdefault("TPU_SKIP_MDS_QUERY", "1")
    try:
        description = topologies.get_topology_desc(
            f"{topology.chip.name}:{topology.shape}", platform="tpu"
        )
    except Exception as error:  # JAX raises whatever the plugin raises
        raise UnsupportedError(
            f"libtpu cannot describe {topology.name}: {error}",
            hint="pip install libtpu; it compiles for TPUs without having one",
        ) from error
    return description.devices
