"""Processes of this machine that tests start and end."""

import socket
import time
from pathlib import Path


def job_of_two() -> list[dict[str, str]]:
    """What the environment of each process says about the job; they meet at a free port."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{found.getsockname()[1]}"
    return [
        {
            "JAX_COORDINATOR_ADDRESS": address,
            "JAX_NUM_PROCESSES": "2",
            "JAX_PROCESS_ID": str(number),
        }
        for number in range(2)
    ]


def has_ended(pid: int) -> bool:
    """Whether a process that was killed ends, within ten seconds."""
    ends = time.monotonic() + 10
    while _is_running(pid) and time.monotonic() < ends:
        time.sleep(0.01)
    return not _is_running(pid)


def _is_running(pid: int) -> bool:
    # One that was killed may keep its entry in /proc: in a container, nothing may wait for it.
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in "ZX"
