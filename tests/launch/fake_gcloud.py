"""A `gcloud` whose slices are folders: workers run what is sent to them, and slices come and go.

`$FAKE_CLOUD/script.json` says what happens: `states`, what `describe` says in turn, for the first
request, the second and so on; `refuse`, an error of `create`. A worker that writes `PREEMPT` loses
the slice. Subcommands and flags are those of `gcloud ... --help`; others are errors.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

CLOUD = Path(os.environ["FAKE_CLOUD"])
WORKERS = 2
COMMON = {"zone", "project", "quiet", "format"}
FLAGS = {
    ("queued-resources", "create"): {
        "node-id",
        "accelerator-type",
        "runtime-version",
        "scopes",
        "spot",
    },
    ("queued-resources", "describe"): set(),
    ("queued-resources", "delete"): {"force"},
    ("tpu-vm", "ssh"): {"worker", "command"},
    ("tpu-vm", "scp"): {"worker"},
}


def main(*arguments: str) -> int:
    """Runs one command; returns its exit code."""
    assert arguments[:2] == ("compute", "tpus"), arguments
    command = (arguments[2], arguments[3])
    names = [word for word in arguments[4:] if not word.startswith("--")]
    flags: dict[str, str] = {}
    for word in arguments[4:]:
        if word.startswith("--"):
            name, _, value = word.removeprefix("--").partition("=")
            flags[name] = value
    unknown = flags.keys() - FLAGS[command] - COMMON
    if unknown:
        print(f"ERROR: unrecognized arguments: {unknown}", file=sys.stderr)
        return 2
    with (CLOUD / "calls.jsonl").open("a") as file:
        file.write(json.dumps([*command, *names, flags]) + "\n")
    run = {"create": _create, "describe": _describe, "delete": _delete, "ssh": _ssh, "scp": _scp}
    return run[command[1]](names, flags)


def _script() -> dict[str, list[list[str]] | str]:
    return json.loads((CLOUD / "script.json").read_text())


def _requests() -> int:
    lines = (CLOUD / "calls.jsonl").read_text().splitlines()
    return sum(json.loads(line)[1] == "create" for line in lines)


def _create(names: list[str], flags: dict[str, str]) -> int:
    if "refuse" in _script():
        print(f"ERROR: (gcloud) RESOURCE_EXHAUSTED: {_script()['refuse']}", file=sys.stderr)
        return 1
    (CLOUD / "states.json").write_text(json.dumps(_script()["states"][_requests() - 1]))
    for number in range(WORKERS):
        (CLOUD / f"worker-{number}").mkdir()
    return 0


def _states() -> list[str]:
    return json.loads((CLOUD / "states.json").read_text())


def _describe(names: list[str], flags: dict[str, str]) -> int:
    if not (CLOUD / "states.json").exists():
        print("ERROR: (gcloud) NOT_FOUND: no such queued resource", file=sys.stderr)
        return 1
    if "failedData" in flags["format"]:
        print("no capacity in this zone")
        return 0
    states = _states()
    if (CLOUD / "PREEMPT").exists():
        states = ["SUSPENDING", "SUSPENDED"]
        (CLOUD / "PREEMPT").unlink()
    print(states[0])
    (CLOUD / "states.json").write_text(json.dumps(states[1:] or states))
    return 0


def _delete(names: list[str], flags: dict[str, str]) -> int:
    (CLOUD / "states.json").unlink()
    for folder in CLOUD.glob("worker-*"):
        _power_off(folder)
        shutil.rmtree(folder)
    return 0


def _power_off(folder: Path) -> None:
    pid = folder / "t1_jax/run.pid"
    if pid.exists():
        with contextlib.suppress(ProcessLookupError):
            os.killpg(os.getpgid(int(pid.read_text())), signal.SIGKILL)


def _workers(flags: dict[str, str]) -> list[Path]:
    which = flags.get("worker", "0")
    return sorted(CLOUD.glob("worker-*" if which == "all" else f"worker-{which}"))


def _scp(names: list[str], flags: dict[str, str]) -> int:
    for folder in _workers(flags):
        shutil.copy(names[0], folder)
    return 0


def _ssh(names: list[str], flags: dict[str, str]) -> int:
    codes = []
    for folder in _workers(flags):
        environment = {**os.environ, "HOME": str(folder), "WORKER": folder.name[-1]}
        environment["PATH"] = f"{CLOUD / 'worker_bin'}:{os.environ['PATH']}"
        remote = subprocess.Popen(
            ["bash", "-c", flags["command"]], cwd=folder, env=environment, start_new_session=True
        )
        try:
            while remote.poll() is None:
                time.sleep(0.02)
                if (CLOUD / "PREEMPT").exists():
                    return 255
        finally:  # also at Ctrl-C, where the connection ends
            if remote.poll() is None:
                os.killpg(remote.pid, signal.SIGKILL)
        codes.append(remote.returncode)
    return max(codes)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
