"""How the processes of a job find each other, and how one that fails ends all."""

import os
import socket
import subprocess
import sys
import time

import jax
import pytest

from t1_jax.errors import ConfigError, T1Error
from t1_jax.parallel import start_multi_host
from tests.processes import job_of_two

VARIABLES = (
    "T1_MULTI_HOST",
    "JAX_COORDINATOR_ADDRESS",
    "JAX_NUM_PROCESSES",
    "JAX_PROCESS_ID",
    "SLURM_STEP_NUM_TASKS",
    "TPU_WORKER_HOSTNAMES",
)


@pytest.fixture
def joins(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, int | None]]:
    """The calls of `jax.distributed.initialize`, in an environment without a job."""
    calls: list[dict[str, int | None]] = []
    monkeypatch.setattr(jax.distributed, "initialize", lambda **kwargs: calls.append(kwargs))
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return calls


@pytest.mark.parametrize(
    ("environment", "numbers"),
    [
        ({}, None),
        ({"T1_MULTI_HOST": "1"}, (None, None)),
        (
            {
                "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
                "JAX_NUM_PROCESSES": "4",
                "JAX_PROCESS_ID": "0",
            },
            (4, 0),
        ),
        ({"JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234", "T1_MULTI_HOST": "0"}, None),
        ({"SLURM_STEP_NUM_TASKS": "16"}, (None, None)),
        ({"SLURM_STEP_NUM_TASKS": "1"}, None),
        ({"TPU_WORKER_HOSTNAMES": "t1-0.t1,t1-1.t1"}, (None, None)),
        ({"TPU_WORKER_HOSTNAMES": "localhost"}, None),
    ],
)
def test_the_launcher_says_whether_there_are_others(joins, monkeypatch, environment, numbers):
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    start_multi_host()
    if numbers is None:
        assert joins == []
    else:
        assert joins == [{"num_processes": numbers[0], "process_id": numbers[1]}]


def test_processes_that_cannot_find_each_other_are_told_what_to_set(joins, monkeypatch):
    monkeypatch.setenv("JAX_COORDINATOR_ADDRESS", "10.0.0.1:1234")
    monkeypatch.setenv("JAX_PROCESS_ID", "first")
    with pytest.raises(ConfigError, match="JAX_PROCESS_ID must be a number, got 'first'"):
        start_multi_host()
    monkeypatch.delenv("JAX_PROCESS_ID")

    def alone(**_: object) -> None:
        raise ValueError("Number of processes must be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", alone)
    with pytest.raises(ConfigError, match="Number of processes must be defined") as caught:
        start_multi_host()
    assert "JAX_NUM_PROCESSES and JAX_PROCESS_ID" in (caught.value.hint or "")


def test_processes_that_do_not_connect_are_told(joins, monkeypatch):
    def never(**_: object) -> None:
        raise RuntimeError("DEADLINE_EXCEEDED: Barrier timed out.\nmore")

    monkeypatch.setattr(jax.distributed, "initialize", never)
    monkeypatch.setenv("T1_MULTI_HOST", "1")
    with pytest.raises(T1Error, match="could not connect: DEADLINE_EXCEEDED: Barrier timed out"):
        start_multi_host()


def test_jax_reads_a_slurm_step_as_documented(monkeypatch):
    """One process for each GPU: of those of its node, a process takes the one of its number."""
    from jax._src.clusters import ClusterEnv

    for name, value in (
        ("JOB_ID", "7"),
        ("STEP_NODELIST", "node[003-004]"),
        ("NTASKS", "16"),
        ("PROCID", "9"),
        ("LOCALID", "1"),
    ):
        monkeypatch.setenv(f"SLURM_{name}", value)
    found = ClusterEnv.auto_detect_unset_distributed_params(None, None, None, None, None, 1)
    assert found == (f"node003:{7 + 65535 - 2**12 + 1}", 16, 9, [1])


def test_jax_reads_a_tpu_slice_of_gke_as_documented(monkeypatch):
    from jax._src.clusters import cloud_tpu_cluster

    monkeypatch.setattr(cloud_tpu_cluster, "running_in_cloud_tpu_vm", True)
    monkeypatch.setattr(socket, "gethostbyname", lambda name: "10.0.0.1")
    monkeypatch.setenv("TPU_WORKER_HOSTNAMES", "t1-0.t1,t1-1.t1")
    monkeypatch.setenv("TPU_WORKER_ID", "1")
    for name in ("COORDINATOR_ADDRESS", "NUM_SLICES", "SLICE_ID"):
        monkeypatch.setenv(f"MEGASCALE_{name}", "")  # otherwise it asks the metadata server
    cluster = cloud_tpu_cluster.GkeTpuCluster
    assert cluster.is_env_present()
    assert (cluster.get_process_count(), cluster.get_process_id()) == (2, 1)
    assert cluster.get_coordinator_address(1, None) == "t1-0.t1:8482"


WORKER = """
import sys, time
import jax
from t1_jax.errors import ConfigError
from t1_jax.parallel import multi_host_job

with multi_host_job():
    if jax.process_index() == int(sys.argv[1]):
        time.sleep(1)
        raise ConfigError("no space", hint="free some")
    time.sleep(600)
"""


@pytest.mark.enable_socket
@pytest.mark.parametrize("failing", [0, 1])
def test_a_process_that_fails_ends_all_at_once_with_its_reason(failing):
    start = time.monotonic()
    workers = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, str(failing)],
            env=os.environ | job,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for job in job_of_two()
    ]
    outputs = [worker.communicate(timeout=200)[0] for worker in workers]
    assert time.monotonic() - start < 100
    assert [worker.returncode for worker in workers] == [2, 2], outputs
    assert f"error: process {failing} of 2 failed: no space" in outputs[1 - failing]
    assert "ConfigError: no space" in outputs[failing]
