"""What `t1 doctor` finds out about this machine: facts first, then what to make of them."""

import os
import platform
import shutil
import sys
import time
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

PACKAGES = (
    "t1_jax", "jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "grain", "numpy",
    "transformers", "tokenizers", "safetensors", "gguf", "scann", "bm25s", "torch",
)  # fmt: skip

TESTED_PAIRS = (("0.10.2", "0.12.8"), ("0.12.0.1", "0.12.12"))
"""Versions of jax and flax that work together; moving one alone breaks (google/flax#5596)."""

_GIB = 1 << 30


@dataclass(frozen=True, kw_only=True)
class CpuFacts:
    """The processor.

    Attributes:
        name: as the system calls it.
        cores: that this process may use, after affinity and the container's quota.
        cores_of_machine: logical cores there are.
        bf16: the instructions that multiply bfloat16 matrices, empty where there are none; None
            where the system does not tell.
        load: runnable processes over the last minute, or None.
    """

    name: str
    cores: int
    cores_of_machine: int
    bf16: tuple[str, ...] | None
    load: float | None


@dataclass(frozen=True, kw_only=True)
class Memory:
    """Bytes of main memory; None where the system does not tell."""

    total: int | None
    free: int | None


@dataclass(frozen=True, kw_only=True)
class Device:
    """One JAX device: platform (`cpu`, `gpu`, `tpu`), kind, and bytes of memory if it has its own.

    `gflops` is the measured rate of a matrix product by dtype, in 10⁹ operations a second; empty
    where it was not measured.
    """

    platform: str
    kind: str
    memory: int | None
    gflops: dict[str, float]


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Everything `t1 doctor` knows.

    Attributes:
        python: its version.
        system: operating system and architecture.
        versions: of the packages that matter; None where one is not installed.
        cpu: the processor.
        memory: main memory.
        disk_free: bytes free where the cache lies.
        cache: folder of fetched files.
        cache_bytes: what it holds, by name.
        compilation_cache: folder of compiled programs, or None where JAX keeps none.
        devices: what JAX computes on.
        accelerator: kind that the machine has, whether JAX uses it or not; None if none is seen.
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
    """One thing worth knowing.

    Attributes:
        level: `broken` (does not work here), `slow`, or `missing` (something optional).
        problem: the fact.
        impact: what follows from it.
        hint: what to do about it; empty where there is nothing to do.
    """

    level: Literal["broken", "slow", "missing"]
    problem: str
    impact: str
    hint: str = ""


def findings(machine: Machine) -> list[Finding]:
    """What is broken, slow or missing on this machine, the gravest first."""
    found = [*_of_versions(machine), *_of_cpu(machine), *_of_room(machine), *_of_jax(machine)]
    order = ("broken", "slow", "missing")
    return sorted(found, key=lambda finding: order.index(finding.level))


def _of_versions(machine: Machine) -> list[Finding]:
    found = []
    pair = (machine.versions["jax"], machine.versions["flax"])
    if pair not in TESTED_PAIRS:
        known = " or ".join(f"jax {jax} with flax {flax}" for jax, flax in TESTED_PAIRS)
        found.append(
            Finding(
                level="broken",
                problem=f"jax {pair[0]} with flax {pair[1]} is not a tested pair",
                impact="flax reaches into jax, and each release of one fits few of the other",
                hint=f"install {known}: see constraints/, or run make setup",
            )
        )
    if machine.python.startswith("3.11"):
        found.append(
            Finding(
                level="slow",
                problem=f"Python {machine.python}",
                impact="its last jax is 0.10.2, whose bfloat16 products on CPU are no faster "
                "than float32; with jax 0.12 they are about twice as fast",
                hint="use Python 3.12 or 3.13 if you do not need 3.11",
            )
        )
    if machine.versions["scann"] is None:
        found.append(
            Finding(
                level="missing",
                problem="scann is not installed",
                impact="approximate indexes are missing; exact search serves up to about a million "
                "documents",
                hint="pip install scann (Linux on x86-64 and aarch64 only)",
            )
        )
    return found


def _of_cpu(machine: Machine) -> list[Finding]:
    cpu = machine.cpu
    if any(device.platform != "cpu" for device in machine.devices):
        return []
    found = []
    if machine.accelerator is not None:
        extra = "tpu" if machine.accelerator == "TPU" else "cuda"
        found.append(
            Finding(
                level="slow",
                problem=f"JAX computes on the CPU, though there is a device: {machine.accelerator}",
                impact="the accelerator is tens of times faster",
                hint=f'pip install "t1_jax[{extra}]", and see that JAX_PLATFORMS is not cpu',
            )
        )
    elif cpu.cores < 8:
        found.append(
            Finding(
                level="slow",
                problem=f"{cpu.cores} of {cpu.cores_of_machine} cores may be used; no accelerator",
                impact="thinking and encoding grow almost linearly with cores",
                hint="use more cores, or a machine with a GPU or TPU, tens of times faster",
            )
        )
    if cpu.bf16 == ():
        found.append(
            Finding(
                level="slow",
                problem="this processor has no bfloat16 matrix instructions",
                impact="bfloat16 saves memory here but no time",
                hint="compare --dtype float32 and --dtype bfloat16",
            )
        )
    if cpu.load is not None and cpu.load > cpu.cores + 1:
        found.append(
            Finding(
                level="slow",
                problem=f"{cpu.load:.0f} processes want {cpu.cores} cores",
                impact="something else is running, so everything here takes longer",
                hint="wait for it, or stop it",
            )
        )
    return found


def _of_room(machine: Machine) -> list[Finding]:
    found = []
    if machine.memory.free is not None and machine.memory.free < 2 * _GIB:
        found.append(
            Finding(
                level="slow",
                problem=f"{size(machine.memory.free)} of memory are free",
                impact="the quick start needs about 2 GiB; with less the system swaps or kills it",
                hint="close other programs",
            )
        )
    if machine.disk_free < _GIB:
        found.append(
            Finding(
                level="broken",
                problem=f"{size(machine.disk_free)} are free where {machine.cache} lies",
                impact="a model and its index need about 1 GiB",
                hint="free disk space, or set T1_CACHE to a folder on another disk",
            )
        )
    return found


def _of_jax(machine: Machine) -> list[Finding]:
    if machine.compilation_cache:
        return []
    return [
        Finding(
            level="slow",
            problem="JAX's compilation cache is off",
            impact="every start compiles anew, which takes some seconds a shape",
            hint="export JAX_COMPILATION_CACHE_DIR=~/.cache/t1_jax/xla (keep it private: it holds "
            "executables)",
        )
    ]


def examine(*, measure: bool = True) -> Machine:
    """Looks at the machine; starts JAX's back end, and with `measure` multiplies a few matrices."""
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


def size(n_bytes: int) -> str:
    """Bytes as a person reads them."""
    value = float(n_bytes)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _cpu() -> CpuFacts:
    of_machine = os.cpu_count() or 1
    usable = len(os.sched_getaffinity(0)) if sys.platform == "linux" else of_machine
    described = _cpuinfo()
    flags = described.get("flags", described.get("Features", "")).split()
    bf16 = tuple(flag for flag in ("avx512_bf16", "amx_bf16", "avx_ne_convert", "bf16", "svebf16")
                 if flag in flags)  # fmt: skip
    return CpuFacts(
        name=described.get("model name", platform.processor() or platform.machine()),
        cores=min(usable, _quota() or usable),
        cores_of_machine=of_machine,
        bf16=bf16 if flags else None,
        load=os.getloadavg()[0] if os.name == "posix" else None,
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries of /proc/cpuinfo; nothing where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().partition("\n\n")[0].splitlines()
    except OSError:
        return {}
    pairs = (line.partition(":") for line in lines)
    return {key.strip(): value.strip() for key, _, value in pairs}


def _quota() -> int | None:
    """Whole cores that the container's quota allows, at least 1; None without a quota."""
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return None if quota == "max" else max(1, round(int(quota) / int(period)))


def _accelerator() -> str | None:
    """What the system's device files show, which needs no driver library."""
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
    """The nearest folder above that exists, on whose disk `path` would be made."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.exists())


def _cache_bytes(cache: Path) -> dict[str, int]:
    """What the cache holds, two levels deep: `models/smollm2-135m-instruct` -> bytes."""
    entries = sorted(cache.glob("*/*"))
    return {
        entry.relative_to(cache).as_posix(): sum(
            file.stat().st_size for file in (entry, *entry.rglob("*")) if file.is_file()
        )
        for entry in entries
    }


def _devices(measure: bool) -> tuple[Device, ...]:
    import jax

    found = []
    for number, device in enumerate(jax.local_devices()):
        stats = device.memory_stats() or {}
        # Every device of a machine is alike, so that one is measured for all.
        rates = _matmul_rates(device) if measure and number == 0 else {}
        found.append(
            Device(
                platform=device.platform,
                kind=device.device_kind,
                memory=stats.get("bytes_limit"),
                gflops=rates,
            )
        )
    return tuple(found)


def _matmul_rates(device: object) -> dict[str, float]:
    """The best rate of a few square products for each dtype, in 10⁹ operations a second."""
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
