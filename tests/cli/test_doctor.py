import dataclasses
import json

import pytest

from t1_jax.cli import diagnostics as machine_module
from t1_jax.cli.diagnostics import (
    TESTED_PAIRS,
    CpuFacts,
    Device,
    Machine,
    Memory,
    diagnose,
    inspect_machine,
)
from t1_jax.cli.output import size_text

GIB = 1 << 30


@pytest.fixture
def good(tmp_path) -> Machine:
    """A machine with nothing to say against it."""
    jax, flax = TESTED_PAIRS[1]
    return Machine(
        python="3.13.0",
        system="Linux x86_64",
        versions={"jax": jax, "flax": flax, "scann": "1.4.2"},
        cpu=CpuFacts(name="x", usable_cores=16, total_cores=16, bf16=("amx_bf16",), load=1.0),
        memory=Memory(total=64 * GIB, free=32 * GIB),
        disk_free=100 * GIB,
        cache=tmp_path,
        cache_bytes={},
        compilation_cache="/somewhere",
        devices=(Device(platform="cpu", kind="cpu", memory=None, gflops={}),),
        accelerator=None,
    )


def test_nothing_is_found_on_a_good_machine(good):
    assert diagnose(good) == []


@pytest.mark.parametrize(
    ("changes", "level", "what"),
    [
        ({"versions": {"jax": "0.12.0.1", "flax": "0.12.8", "scann": "1"}}, "broken", "tested"),
        ({"versions": {"jax": "0.10.2", "flax": "0.12.8", "scann": None}}, "missing", "scann"),
        ({"python": "3.11.9"}, "slow", "Python 3.11"),
        ({"disk_free": GIB // 2}, "broken", "512 MiB free"),
        ({"memory": Memory(total=4 * GIB, free=GIB)}, "slow", "1.0 GiB of memory"),
        ({"compilation_cache": None}, "slow", "compilation cache"),
        ({"accelerator": "NVIDIA GPU"}, "slow", "NVIDIA GPU"),
        ({"cpu": {"usable_cores": 2}}, "slow", "2 of 16 usable cores"),
        ({"cpu": {"bf16": ()}}, "slow", "bfloat16"),
        ({"cpu": {"load": 30.0}}, "slow", "30 running processes share 16 cores"),
    ],
)
def test_each_fault_is_found_with_its_reason(good, changes, level, what):
    if "cpu" in changes:
        changes = {"cpu": dataclasses.replace(good.cpu, **changes["cpu"])}
    (finding,) = diagnose(dataclasses.replace(good, **changes))
    assert finding.level == level
    assert what in finding.problem
    assert finding.impact
    assert finding.hint


def test_the_processor_does_not_matter_beside_a_gpu(good):
    gpu = Device(platform="gpu", kind="H200", memory=139 * GIB, gflops={})
    cpu = dataclasses.replace(good.cpu, usable_cores=2, bf16=())
    assert diagnose(dataclasses.replace(good, devices=(gpu,), cpu=cpu)) == []


def test_what_is_broken_comes_first(good):
    worse = dataclasses.replace(good, compilation_cache=None, disk_free=0, python="3.11.1")
    assert [finding.level for finding in diagnose(worse)] == ["broken", "slow", "slow"]


def test_this_machine(cache, monkeypatch):
    (cache / "models" / "some").mkdir(parents=True)
    (cache / "models" / "some" / "weights").write_bytes(b"12345")
    (cache / "xla").mkdir()
    for program in ("jit_a", "jit_b"):  # hundreds of them are one entry
        (cache / "xla" / program).write_bytes(b"123")
    (cache / "locks").mkdir()
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", "/elsewhere")
    found = inspect_machine(measure=False)
    assert found.cache_bytes == {"models/some": 5, "xla": 6}
    assert found.compilation_cache == "/elsewhere"
    assert 1 <= found.cpu.usable_cores <= found.cpu.total_cores
    assert found.disk_free > 0
    assert found.versions["jax"]
    assert {device.platform for device in found.devices} == {"cpu"}


def test_the_command(t1, monkeypatch):
    monkeypatch.setattr(machine_module, "_matmul_rates", lambda device: {"float32": 12.5})
    answer = t1("doctor", "--json")
    fields = answer.json
    broken = [finding for finding in fields["findings"] if finding["level"] == "broken"]
    assert answer.code == (2 if broken else 0)
    assert fields["devices"][0]["gflops"] == {"float32": 12.5}
    assert "float32 12" in answer.err
    words = t1("doctor", "--no-measure").out
    assert "GFLOP/s" not in words
    for finding in fields["findings"]:
        assert finding["impact"] in words or finding["level"] == "slow"
    json.dumps(fields)


def test_rates_are_measured(monkeypatch):
    import jax

    rates = machine_module._matmul_rates(jax.local_devices()[0])
    assert set(rates) == {"float32", "bfloat16"}
    assert all(rate > 0.1 for rate in rates.values())


def test_bytes_as_people_read_them():
    assert [size_text(n) for n in (5, 2048, 5 << 20, 3 * GIB)] == [
        "5 B",
        "2 KiB",
        "5 MiB",
        "3.0 GiB",
    ]
