"""Which card this is, which versions run, and what the card reaches where nothing is in the way."""

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import flax
import jax
import jax.numpy as jnp

from benchmarks.gpu.record import Record
from benchmarks.gpu.roofline import bandwidth, share, timed
from benchmarks.gpu.setting import Setting, run_part
from t1_jax.model import peak_flops

_PACKAGES = ("jax", "jaxlib", "optax", "orbax-checkpoint", "transformers", "torch", "numpy")


def check(setting: Setting, record: Record) -> None:
    """Facts first, then the two ceilings, each as a share of the data sheet's."""
    device = jax.devices()[0]
    record.fact("card", _card() or f"{device.device_kind} ({device.platform})")
    record.fact("jax device", f"{device.device_kind}, compute {_capability(device)}")
    record.fact("python", platform.python_version())
    record.fact("flax", f"{flax.__version__} in {flax.__file__}")
    for name in _PACKAGES:
        try:
            record.fact(name, version(name))
        except PackageNotFoundError:
            record.fact(name, "absent")
    if not setting.toy:
        on_gpu = device.platform == "gpu"
        record.check("a GPU is in use", float(on_gpu), 1, at_least=True)
    with record.case("bf16 matrix product"):
        size = 256 if setting.toy else 8192
        a, b = (
            jax.random.normal(jax.random.key(seed), (size, size), jnp.bfloat16) for seed in (0, 1)
        )
        product = jax.jit(lambda a, b: a @ b)
        _, seconds = timed(lambda: product(a, b), rounds=10)
        rate = 2 * size**3 / seconds
        record.measure(
            f"bf16 product of {size:,} x {size:,}",
            rate / 1e12,
            "TFLOP/s",
            share=share(rate, peak_flops(device.device_kind)),
            of="peak FLOP/s",
        )
    with record.case("copy in device memory"):
        source = jnp.ones((1 << (16 if setting.toy else 30),), jnp.float32)
        copy = jax.jit(lambda x: x + 1)
        _, seconds = timed(lambda: copy(source), rounds=10)
        rate = 2 * source.nbytes / seconds
        record.measure(
            f"read and write of {source.nbytes >> 10:,} KiB",
            rate / 1e9,
            "GB/s",
            share=share(rate, bandwidth(device.device_kind)),
            of="memory bandwidth",
        )
    with record.case("round trip of a scalar"):
        one = jnp.ones(())
        add = jax.jit(lambda x: x + 1)
        _, seconds = timed(lambda: float(add(one)), rounds=50)
        record.measure("program and answer to the host", seconds * 1e6, "µs")


def _card() -> str:
    """The name, driver and memory that the driver's own tool tells; empty without it."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""


def _capability(device: Any) -> str:
    return str(getattr(device, "compute_capability", "none"))


if __name__ == "__main__":
    run_part(check)
