"""launch/tpu_v5.sh from request to deletion, against a `gcloud` whose slices are folders."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from t1_jax.cli.main import app
from tests.processes import has_ended

ROOT = Path(__file__).parents[2]
TRAIN = ("--type", "v5litepod-16", "--spot", "--", "train", "my config.yaml", "output=gs://b/run")
# Six steps, of which the bucket keeps each; T1_TEST says what goes wrong.
T1 = """#!/usr/bin/env bash
bucket=$FAKE_CLOUD/bucket
echo "$WORKER $T1_MULTI_HOST $*" >>"$FAKE_CLOUD/started"
trap 'echo saved; exit 75' TERM
until [ $(($(wc -l <"$FAKE_CLOUD/started") % 2)) = 0 ]; do sleep .02; done # both workers are there
while [ "$(cat "$bucket")" -lt 6 ]; do
    if [ "$WORKER" = 0 ]; then
        step=$(($(cat "$bucket") + 1))
        echo "step $step"
        echo "$step" >"$bucket.new" && mv "$bucket.new" "$bucket" # the other worker reads it
        case "$T1_TEST $step" in
        "preempt 3") touch "$FAKE_CLOUD/PREEMPT" && sleep 60 ;;
        "stop 2") while true; do sleep .05; done ;;
        "fail 2") echo "error: process 1 of 2 failed: no space" && exit 1 ;;
        esac
    fi
    sleep .05
done
"""
PYTHON = """#!/usr/bin/env bash
[ "$T1_TEST $WORKER" != "setup 1" ] || { echo no space >&2; exit 1; }
"""


def script(file: Path, text: str) -> None:
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)
    file.chmod(0o755)


class Cloud:
    """A checkout, a fake `gcloud` on the path, and what happens in its cloud."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cloud = root / "cloud"
        self.checkout = root / "checkout"
        self.cloud.mkdir()
        (self.cloud / "bucket").write_text("0")
        (self.cloud / "calls.jsonl").touch()
        shutil.copytree(ROOT / "launch", self.checkout / "launch")
        (self.checkout / "my config.yaml").write_text("steps: 6\n")
        subprocess.run(["git", "init", "--quiet", self.checkout], check=True)
        fake = Path(__file__).with_name("fake_gcloud.py")
        script(root / "bin/gcloud", f'#!/bin/sh\nexec {sys.executable} {fake} "$@"\n')
        script(self.cloud / "worker_bin/t1", T1)
        script(self.cloud / "worker_bin/python3", PYTHON)

    def start(self, *arguments: str, goes_wrong: str = "", **happens: Any) -> subprocess.Popen[str]:
        happens = {"states": [["WAITING_FOR_RESOURCES", "PROVISIONING", "ACTIVE"]] * 2} | happens
        (self.cloud / "script.json").write_text(json.dumps(happens))
        environment = {
            "PATH": f"{self.root / 'bin'}:{os.environ['PATH']}",
            "HOME": str(self.root),
            "FAKE_CLOUD": str(self.cloud),
            "T1_POLL_SECONDS": "0.01",
            "T1_TEST": goes_wrong,
            "TPU_ACCELERATOR_TYPE": "v5litepod-16",
        }
        return subprocess.Popen(
            [self.checkout / "launch/tpu_v5.sh", *arguments],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    def run(self, *arguments: str, **happens: Any) -> tuple[int, str]:
        """Exit code and output of a command."""
        started = self.start(*arguments, **happens)
        output, _ = started.communicate(timeout=60)
        return started.returncode, output

    @property
    def commands(self) -> list[str]:
        """What was asked of `gcloud`, without looks at states."""
        calls = [json.loads(line) for line in (self.cloud / "calls.jsonl").read_text().splitlines()]
        return [verb for _, verb, *_ in calls if verb != "describe"]

    @property
    def started(self) -> list[str]:
        return (self.cloud / "started").read_text().splitlines()


@pytest.fixture
def cloud(tmp_path: Path):
    cloud = Cloud(tmp_path)
    yield cloud
    if (cloud.cloud / "states.json").exists():
        cloud.run("down", "mine")


def test_a_run_goes_from_the_request_through_a_preemption_to_the_deletion(cloud: Cloud):
    code, output = cloud.run("run", "mine", "--down", *TRAIN, goes_wrong="preempt")
    assert code == 0, output
    # Worker 0 shows every step once: the second slice goes on where the first one was lost.
    assert re.findall(r"^step (\d)", output, re.M) == ["1", "2", "3", "4", "5", "6"]
    assert "mine was preempted" in output
    assert output.count("mine: SUSPENDED") == 1
    assert sorted(cloud.started) == [
        f"{worker} 1 train my config.yaml output=gs://b/run" for worker in (0, 0, 1, 1)
    ]
    assert cloud.commands.count("create") == cloud.commands.count("delete") == 2
    assert cloud.commands[-1] == "delete"


def test_a_run_is_left_and_watched_again_and_stopped(cloud: Cloud):
    watched = cloud.start("run", "mine", *TRAIN, goes_wrong="stop")
    assert watched.stdout is not None
    output = ""
    while "step 2" not in output:
        output += watched.stdout.readline()
    os.killpg(watched.pid, signal.SIGINT)
    output += watched.communicate(timeout=30)[0]
    assert watched.returncode == 130
    assert "no longer watching mine, which goes on: launch/tpu_v5.sh logs mine" in output
    # The same command watches the run that is in progress.
    again = cloud.start("run", "mine", *TRAIN, goes_wrong="stop")
    assert again.stdout is not None
    while "step 2" not in again.stdout.readline():
        time.sleep(0.01)
    assert len(cloud.started) == 2
    assert cloud.run("stop", "mine")[0] == 0
    output = again.communicate(timeout=30)[0]
    assert again.returncode == 75
    assert "the run was stopped, and is saved\n  hint: the same command resumes it" in output
    code, output = cloud.run("logs", "mine")
    assert (code, "step 1\nstep 2\nsaved" in output) == (75, True)
    assert cloud.run("down", "mine")[0] == 0
    assert "delete" in cloud.commands


def test_leftovers_of_a_lost_worker_are_ended_before_the_next_start(cloud: Cloud):
    watched = cloud.start("run", "mine", *TRAIN, goes_wrong="stop")
    assert watched.stdout is not None
    while "step 2" not in watched.stdout.readline():
        pass
    os.killpg(watched.pid, signal.SIGINT)
    watched.communicate(timeout=30)
    # Worker 0 restarts: its run is gone, that of worker 1 goes on. One number belongs to another
    # process by now, which must live.
    pids = [int((cloud.cloud / f"worker-{n}/t1_jax/run.pid").read_text()) for n in (0, 1)]
    os.killpg(os.getpgid(pids[0]), signal.SIGKILL)
    (cloud.cloud / "worker-0/t1_jax/run.pid").write_text(str(os.getpid()))
    code, output = cloud.run("run", "mine", *TRAIN)
    assert code == 0, output
    assert [line.split()[0] for line in cloud.started].count("1") == 2
    assert has_ended(pids[1])


def test_a_run_that_fails_shows_its_reason_and_leaves_the_slice(cloud: Cloud):
    code, output = cloud.run("run", "mine", "--down", *TRAIN, goes_wrong="fail")
    assert code == 1
    assert "error: process 1 of 2 failed: no space" in output
    assert "launch/tpu_v5.sh down mine deletes the slice" in output
    assert "delete" not in cloud.commands


@pytest.mark.parametrize(
    ("happens", "told"),
    [
        ({"refuse": "Quota 'TPUV5sPreemptible' exceeded"}, "Quota 'TPUV5sPreemptible' exceeded"),
        ({"states": [["WAITING_FOR_RESOURCES", "FAILED"]]}, "failed: no capacity in this zone"),
        ({"goes_wrong": "setup"}, "the set-up failed on a worker"),
    ],
)
def test_what_cannot_work_is_told_and_not_tried_again(cloud: Cloud, happens, told: str):
    code, output = cloud.run("run", "mine", *TRAIN, **happens)
    assert code == 1
    assert told in output
    assert "hint:" in output
    assert cloud.commands.count("create") == 1
    assert not (cloud.cloud / "started").exists()


def test_a_request_that_is_lost_while_it_waits_is_made_again(cloud: Cloud):
    code, output = cloud.run("up", "mine", *TRAIN[:3], states=[["SUSPENDED"], ["ACTIVE"]])
    assert code == 0, output
    assert cloud.commands[:3] == ["create", "delete", "create"]


def test_a_dry_run_prints_every_command_and_runs_none(cloud: Cloud):
    where = ("--zone", "us-west4-a", "--setup", "t1 pull qwen3-0.6b")
    code, output = cloud.run("run", "mine", *where, "--down", "--dry-run", *TRAIN)
    assert code == 0
    assert cloud.commands == []
    printed = [line for line in output.splitlines() if line.startswith("$ gcloud compute tpus")]
    assert [line.split()[5] for line in printed] == [
        "create", "ssh", "scp", "ssh", "ssh", "ssh", "ssh", "ssh", "ssh", "delete",
    ]  # fmt: skip
    assert all("--zone=us-west4-a" in line for line in printed)
    assert "--accelerator-type=v5litepod-16 --runtime-version=v2-alpha-tpuv5-lite" in printed[0]
    assert "--spot" in printed[0]
    assert "t1 pull qwen3-0.6b" in output


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("run",), "run needs the name of the slice"),
        (("run", "mine", "--type", "v5p-8"), "run needs the command of t1"),
        (("up", "mine"), "--type is not given"),
        (("up", "mine", "--type", "v6e-8"), "v6e-8 is not a TPU v5"),
        (("up", "mine", "--typ", "v5p-8"), "unknown option --typ"),
        (("up", "mine", "--type"), "--type needs a value"),
    ],
)
def test_wrong_options_are_told(cloud: Cloud, arguments: tuple[str, ...], told: str):
    code, output = cloud.run(*arguments)
    assert code == 2
    assert told in output
    assert "hint:" in output


def test_the_words_of_the_job_are_no_commands_of_t1():
    names = {command.name for command in app.registered_commands}
    names |= {group.name for group in app.registered_groups}
    assert "train" in names
    assert not names & {"up", "run", "logs", "stop", "down"}
