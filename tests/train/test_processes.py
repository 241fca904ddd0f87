"""Two processes of two devices each train as one process of four does."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import pytest
from safetensors.numpy import load_file

from t1_jax.parallel import MeshConfig, make_mesh_context
from t1_jax.train import TrainConfig
from tests.compile_cache import CompileCache
from tests.processes import job_of_two
from tests.train.toy_runs import S2, S3, merged, run_toy, toy_config

# Whole weights under every loss, which are split over both processes, and document vectors that
# are refreshed; adapters, of which each process has all.
WHOLE: dict[str, dict[str, Any]] = {
    "s3": merged(S3, {"steps": 2, "losses": {"sft": 0.5}, "pool": {"refresh_steps": 1}})
}
WHOLE_MESH = {"fsdp": 2, "tensor": 2}
ADAPTERS: dict[str, dict[str, Any]] = {"s2": merged(S2, {"steps": 1})}
ADAPTERS_MESH = {"data": 2, "tensor": 2}
ADAPTED: dict[str, Any] = {
    "mesh": ADAPTERS_MESH,
    "model": {
        "lora": {"rank": 2, "alpha": 4.0, "targets": ["q", "v"]},
        "emb_token_init": "end",
    },
    "validation": None,  # whole weights are validated
}
MEASURES = {"loss", "grad_norm", "reward", "rollout/length", "validation/ndcg@10"}


def run_two(cache: CompileCache, configs: Sequence[Path]) -> None:
    """Two processes train one config after the other."""
    flags = f"{os.environ['XLA_FLAGS']} --xla_force_host_platform_device_count=2"
    with contextlib.ExitStack() as stack:
        workers = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.train.worker", *configs],
                env={
                    **stack.enter_context(cache.lent(kept=True)),
                    "XLA_FLAGS": flags,
                    **job,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
            for job in job_of_two()
        ]
        told = [worker.communicate(timeout=800)[0] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], "\n".join(told)
    assert told[1].count("validation") == 0  # the first alone speaks


def run_one(config: TrainConfig, mesh: dict[str, int]) -> None:
    run_toy(config, make_mesh_context(MeshConfig(**mesh), devices=jax.devices()[:4]))


def assert_alike(ours: Path, theirs: Path, weights: str) -> None:
    """Metrics of every step and the weights at the end, to rounding."""
    lines, others = (
        [json.loads(line) for line in (root / "run/metrics.jsonl").read_text().splitlines()]
        for root in (ours, theirs)
    )
    assert [line["step"] for line in lines] == [line["step"] for line in others]
    for line, expected in zip(lines, others, strict=True):
        assert line.keys() == expected.keys()
        for name in MEASURES & line.keys():
            assert line[name] == pytest.approx(expected[name], rel=1e-3), name
    found, wanted = (load_file(root / "run/stages" / weights) for root in (ours, theirs))
    assert found.keys() == wanted.keys()
    for name, array in found.items():
        assert abs(array.astype(float) - wanted[name].astype(float)).max() < 0.01, name


@pytest.mark.enable_socket
@pytest.mark.timeout(900)  # two more processes on the cores of the tests
def test_two_processes_train_and_store_as_one_does(toys, tmp_path, compile_cache):
    whole, adapters, one, other = (
        Path(shutil.copytree(toys, tmp_path / name))
        for name in ("whole", "adapters", "one", "other")
    )
    toy_config(whole, WHOLE, mesh=WHOLE_MESH)
    toy_config(adapters, ADAPTERS, **ADAPTED)
    run_two(compile_cache, [whole / "toy.yaml", adapters / "toy.yaml"])
    run_one(toy_config(one, WHOLE, mesh=WHOLE_MESH), WHOLE_MESH)
    assert_alike(whole, one, "s3/model.safetensors")
    run_one(toy_config(other, ADAPTERS, **ADAPTED), ADAPTERS_MESH)
    assert_alike(adapters, other, "s2/adapter_model.safetensors")
