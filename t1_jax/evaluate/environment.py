"""Where an evaluation ran and with what: versions, machine, and the model's own facts."""

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
"""Those whose version can move a number."""


def package_versions() -> dict[str, str]:
    """Versions of Python, this package and what its numbers depend on; the installed ones only."""
    found = {"python": platform.python_version(), "t1_jax": t1_jax.__version__}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def hardware() -> dict[str, str]:
    """The machine's system, processor, cores and memory, as far as it tells."""
    facts = {
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "processor": _line_of(Path("/proc/cpuinfo"), "model name") or platform.processor(),
        "cores": str(os.cpu_count()),
    }
    if kilobytes := _line_of(Path("/proc/meminfo"), "MemTotal"):
        facts["memory_gib"] = f"{int(kilobytes.split()[0]) / 2**20:.1f}"
    return {name: value for name, value in facts.items() if value}


def _line_of(path: Path, key: str) -> str | None:
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
