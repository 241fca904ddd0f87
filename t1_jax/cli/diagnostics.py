"""The machine as `t1 doctor` sees it, and the problems that it reports."""

import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

from t1_jax.cli.output import size_text

PACKAGES = (
    "t1_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
    "transformers", "tokenizers", "safetensors", "gguf", "scann", "bm25s", "torch",
)  # fmt: skip

TESTED_PAIRS = (("0.10.2", "0.12.8"), ("0.12.0.1", "0.12.12"))
"""Versions of jax and flax that work together; upgrading one alone breaks (google/flax#5596)."""

_GIB = 1 << 30


_ASSET_FOLDERS = ("collections", "models", "packages")
"""Folders of the cache with one entry per name that `t1 pull` knows."""


@dataclass(frozen=True, kw_only=True)
class CpuFacts:
    """The processor.

    Attributes:
        name: its model name.
        usable_cores: cores for this process, after affinity and the quota of the container.
        total_cores: logical cores of the machine.
        bf16: instruction sets for bfloat16 matrix products; empty without any, None if unknown.
        load: mean number of runnable processes over the last minute, or None.
    """

    name: str
    usable_cores: int
    total_cores: int
    bf16: tuple[str, ...] | None
    load: float | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Main memory in bytes; None if unknown."""

    total: int | None
    free: int | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """One JAX device.

    Attributes:
        platform: `cpu`, `gpu` or `tpu`.
        kind: its model name.
        memory: its own memory in bytes, or None.
        gflops: measured rate of matrix multiplication in 10⁹ operations per second by dtype; empty
            if not measured.
    """

    platform: str
    kind: str
    memory: int | None
    gflops: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Everything that `t1 doctor` inspects.

    Attributes:
        system: operating system and architecture.
        versions: package versions; None for a package that is not installed.
        disk_free: free bytes on the disk of the cache.
        cache: folder of downloaded files.
        cache_bytes: size of each entry in the cache.
        compilation_cache: folder of JAX's compilation cache, or None if it is off.
        accelerator: accelerator in the machine, whether or not JAX uses it; None without one.
    """

    python: str
    system: str
    versions: dict[str, str | None]
    cpu: CpuFacts
    memory: Memory
    disk_free: int
    cache: Path
    cache_bytes: dict[str, int]
    compilation_cache: str | None
    devices: tuple[Device, ...]
    accelerator: str | None


@dataclass(frozen=True, kw_only=True)
class Finding:
    """One problem; `missing` is for something optional, and a hint is empty if there is no fix."""

    level: Literal["broken", "slow", "missing"]
    problem: str
    impact: str
    hint: str = ""


def diagnose(machine: Machine) -> list[Finding]:
    """The problems of this machine, most severe first."""
    checks = (_check_versions, _check_compute, _check_space, _check_compilation_cache)
    findings = [finding for check in checks for finding in check(machine)]
    order = ("broken", "slow", "missing")
    return sorted(findings, key=lambda finding: order.index(finding.level))


def _check_versions(machine: Machine) -> Iterator[Finding]:
    pair = (machine.versions["jax"], machine.versions["flax"])
    if pair not in TESTED_PAIRS:
        known = " or ".join(f"jax {jax} with flax {flax}" for jax, flax in TESTED_PAIRS)
        yield Finding(
            level="broken",
            problem=f"jax {pair[0]} with flax {pair[1]} is not a tested pair",
            impact="flax uses internals of jax, so each release fits few releases of jax",
            hint=f"install {known}: see constraints/, or run make setup",
        )
    if machine.python.startswith("3.11"):
        yield Finding(
            level="slow",
            problem=f"Python {machine.python}",
            impact="its newest jax is 0.10.2, whose bfloat16 products on CPU are as slow as "
            "float32; jax 0.12 is about twice as fast",
            hint="use Python 3.12 or 3.13 if you do not need 3.11",
        )
    if machine.versions["scann"] is None:
        yield Finding(
            level="missing",
            problem="scann is not installed",
            impact="no approximate indexes; exact search is enough for a million documents",
            hint="pip install scann (Linux on x86-64 and aarch64 only)",
        )


def _check_compute(machine: Machine) -> Iterator[Finding]:
    cpu = machine.cpu
    if any(device.platform != "cpu" for device in machine.devices):
        return
    if machine.accelerator is not None:
        extra = "tpu" if machine.accelerator == "TPU" else "cuda"
        yield Finding(
            level="slow",
            problem=f"JAX uses the CPU, although the machine has a {machine.accelerator}",
            impact="the accelerator is tens of times faster",
            hint=f'pip install "t1_jax[{extra}]", and check that JAX_PLATFORMS is not cpu',
        )
    elif cpu.usable_cores < 8:
        yield Finding(
            level="slow",
            problem=f"{cpu.usable_cores} of {cpu.total_cores} usable cores, and no accelerator",
            impact="the speed of thinking and encoding grows almost linearly with cores",
            hint="use more cores, or a GPU or TPU, which is tens of times faster",
        )
    if cpu.bf16 == ():
        yield Finding(
            level="slow",
            problem="this processor has no bfloat16 matrix instructions",
            impact="bfloat16 saves memory here but no time",
            hint="compare --dtype float32 and --dtype bfloat16",
        )
    if cpu.load is not None and cpu.load > cpu.usable_cores + 1:
        yield Finding(
            level="slow",
            problem=f"{cpu.load:.0f} running processes share {cpu.usable_cores} cores",
            impact="everything takes longer",
            hint="wait for the other processes, or stop them",
        )


def _check_space(machine: Machine) -> Iterator[Finding]:
    if machine.memory.free is not None and machine.memory.free < 2 * _GIB:
        yield Finding(
            level="slow",
            problem=f"only {size_text(machine.memory.free)} of memory are free",
            impact="the quick start needs about 2 GiB; with less it may swap or be killed",
            hint="close other programs",
        )
    if machine.disk_free < _GIB:
        yield Finding(
            level="broken",
            problem=f"only {size_text(machine.disk_free)} free on the disk of {machine.cache}",
            impact="a model and its index need about 1 GiB",
            hint="free disk space, or set T1_CACHE to a folder on another disk",
        )


def _check_compilation_cache(machine: Machine) -> Iterator[Finding]:
    if machine.compilation_cache:
        return
    yield Finding(
        level="slow",
        problem="JAX's compilation cache is off",
        impact="every start compiles again, which takes seconds per shape",
        hint="export JAX_COMPILATION_CACHE_DIR=~/.cache/t1_jax/xla (keep it private: it holds "
        "executables)",
    )


def inspect_machine(*, measure: bool = True) -> Machine:
    """Inspects the machine; starts JAX, and with `measure` times matrix multiplication."""
    from t1_jax.hub import cache_folder

    cache = cache_folder()
    return Machine(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        versions={name: _version(name) for name in PACKAGES},
        cpu=_cpu(),
        memory=_memory(),
        disk_free=shutil.disk_usage(_existing(cache)).free,
        cache=cache,
        cache_bytes=_cache_bytes(cache),
        compilation_cache=os.environ.get("JAX_COMPILATION_CACHE_DIR"),
        devices=_devices(measure),
        accelerator=_accelerator(),
    )


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> CpuFacts:
    total = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else total
    described = _cpuinfo()
    flags = described.get("flags", described.get("Features", "")).split()
    bf16 = tuple(flag for flag in ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16")
                 if flag in flags)  # fmt: skip
    return CpuFacts(
        name=described.get("model name", platform.processor() or platform.machine()),
        usable_cores=min(usable, _quota() or usable),
        total_cores=total,
        bf16=bf16 if flags else None,
        load=os.getloadavg()[0] if os.name == "posix" else None,
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; empty without that file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _quota() -> int | None:
    """Cores that the container's quota allows, rounded, at least 1; None without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, round(int(quota) / int(period)))


def _accelerator() -> str | None:
    """The accelerator according to device files, which needs no driver library."""
    if Path("/dev/nvidia0").exists():
        return "NVIDIA GPU"
    return "TPU" if any(Path("/dev").glob("accel[0-9]*")) else None


def _memory() -> Memory:
    try:
        page = os.sysconf("SC_PAGE_SIZE")
        total = page * os.sysconf("SC_PHYS_PAGES")
        lines = Path("/proc/meminfo").read_text().splitlines()
    except (OSError, ValueError):
        return Memory(total=None, free=None)
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable"))
    return Memory(total=total, free=free)


def _existing(path: Path) -> Path:
    """The nearest existing folder, on whose disk `path` would be created."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _cache_bytes(cache: Path) -> dict[str, int]:
    """Bytes of each pulled asset, such as `models/smollm2-135m-instruct`, and of other folders."""
    entries = [
        entry
        for folder in sorted(cache.glob("*/"))
        for entry in (sorted(folder.iterdir()) if folder.name in _ASSET_FOLDERS else [folder])
    ]
    sizes = {
        entry.relative_to(cache).as_posix(): sum(
            file.stat().st_size for file in (entry, *entry.rglob("*")) if file.is_file()
        )
        for entry in entries
    }
    return {name: size for name, size in sizes.items() if size}


def _devices(measure: bool) -> tuple[Device, ...]:
    import jax

    devices = []
    for number, device in enumerate(jax.local_devices()):
        stats = device.memory_stats() or {}
        # All devices of a machine are alike, so one is measured.
        rates = _matmul_rates(device) if measure and number == 0 else {}
        devices.append(
            Device(
                platform=device.platform,
                kind=device.device_kind,
                memory=stats.get("bytes_limit"),
                gflops=rates,
            )
        )
    return tuple(devices)


def _matmul_rates(device: object) -> dict[str, float]:
    """Best rate of five square products for each dtype, in 10⁹ operations per second."""
    import jax
    import jax.numpy as jnp

    side = 1024 if device.platform == "cpu" else 8192  # pyright: ignore[reportAttributeAccessIssue]
    product = jax.jit(jnp.matmul)
    rates = {}
    for dtype in ("float32", "bfloat16"):
        matrix = jax.device_put(jnp.ones((side, side), dtype), device)
        product(matrix, matrix).block_until_ready()
        seconds = []
        for _ in range(5):
            start = time.perf_counter()
            product(matrix, matrix).block_until_ready()
            seconds.append(time.perf_counter() - start)
        rates[dtype] = 2 * side**3 / min(seconds) / 1e9
    return rates
