"""Two processes of four devices each train as one process of eight does."""

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.numpy import load_file

from t1_jax.parallel import MeshConfig, make_mesh_context
from tests.compile_cache import CompileCache
from tests.train.toy_runs import S2, S3, merged, run_toy, toy_config

STAGES: dict[str, dict[str, Any]] = {
    "s2": merged(S2, {"steps": 2}),
    "s3": merged(S3, {"steps": 2, "pool": {"refresh_steps": 1}}),
}
MEASURES = {"loss", "grad_norm", "reward", "rollout/length", "validation/ndcg@10"}
MESH = {"data": 2, "fsdp": 2, "tensor": 2}


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def run_two(
    cache: CompileCache, root: Path, stages: dict[str, dict[str, Any]], **fields: Any
) -> None:
    toy_config(root, stages, mesh=MESH, **fields)
    config = root / "toy.yaml"
    address = f"127.0.0.1:{free_port()}"
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=4"
    with contextlib.ExitStack() as stack:
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.train.worker", config, address, "2", str(number)],
                env={**stack.enter_context(cache.lent(kept=True)), "XLA_FLAGS": flags},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for number in range(2)
        ]
        told = [worker.communicate(timeout=800)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(told)
    assert told[1].count("validation") == 0  # the first alone speaks


def lines_of(root: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (root / "run/metrics.jsonl").read_text().splitlines()]


@pytest.mark.enable_socket
@pytest.mark.timeout(900)  # two more processes on the cores of the tests
def test_two_processes_train_as_one_does(toys, tmp_path, compile_cache):
    other = Path(shutil.copytree(toys, tmp_path / "other"))
    run_two(compile_cache, toys, STAGES)
    run_toy(toy_config(other, STAGES, mesh=MESH), make_mesh_context(MeshConfig(**MESH)))
    ours, theirs = lines_of(toys), lines_of(other)
    assert [line["step"] for line in ours] == [line["step"] for line in theirs]
    for line, expected in zip(ours, theirs, strict=True):
        assert line.keys() == expected.keys()
        for name in MEASURES & line.keys():
            assert line[name] == pytest.approx(expected[name], rel=1e-3), name
    weights = [load_file(root / "run/stages/s3/model.safetensors") for root in (toys, other)]
    for name, array in weights[0].items():
        assert abs(array.astype(float) - weights[1][name].astype(float)).max() < 0.01, name


@pytest.mark.enable_socket
@pytest.mark.timeout(900)  # two more processes on the cores of the tests
def test_two_processes_train_and_store_adapters(toys, tmp_path, compile_cache):
    stages = {"s2": merged(S2, {"steps": 1})}
    model = {"lora": {"rank": 2, "alpha": 4.0, "targets": ["q", "v"]}, "emb_token_init": "end"}
    other = Path(shutil.copytree(toys, tmp_path / "other"))
    run_two(compile_cache, toys, stages, model=model)
    config = toy_config(other, stages, mesh=MESH, model=model)
    run_toy(config, make_mesh_context(MeshConfig(**MESH)))
    ours, theirs = (
        load_file(root / "run/stages/s2/adapter_model.safetensors") for root in (toys, other)
    )
    assert ours.keys() == theirs.keys()
    for name, array in ours.items():
        assert abs(array.astype(float) - theirs[name].astype(float)).max() < 0.01, name
