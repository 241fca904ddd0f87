"""The environment of an evaluation: package versions and hardware."""

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import t1_jax

PACKAGES = (
    "jax",
    "jaxlib",
    "flax",
    "numpy",
    "transformers",
    "tokenizers",
    "scann",
    "bm25s",
    "pytrec-eval-terrier",
)
"""Packages whose version can change a result."""


def package_versions() -> dict[str, str]:
    """Versions of Python, t1_jax and the installed packages that can change a result."""
    versions = {"python": platform.python_version(), "t1_jax": t1_jax.__version__}
    for name in PACKAGES:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            continue
    return versions


def hardware() -> dict[str, str]:
    """The system, processor, cores and memory of the machine, as far as they are known."""
    facts = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _status_value(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": str(os.cpu_count()),
    }
    if kilobytes := _status_value(Path("/proc/meminfo"), "MemTotal"):
        facts["memory_gib"] = f"{int(kilobytes.split()[0]) / 2**20:.1f}"
    return {name: value for name, value in facts.items() if value}


def _status_value(path: Path, key: str) -> str | None:
    """The value of the first `key: value` line of a Linux status file."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return None
