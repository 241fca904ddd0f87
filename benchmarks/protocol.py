"""Workers: processes that hold one model and answer tasks, one JSON object per line.

Both sides of a comparison run as workers and alternate, so that they do not share memory and drift
of the machine affects both alike.
"""

import json
import resource
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import Any

READY = {"ready": True}
Handler = Callable[[dict[str, Any]], dict[str, Any]]


class Worker:
    """The client of a worker process."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def run(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a task and waits for its timing.

        Raises:
            RuntimeError: the worker died; standard error has its message.
        """
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(task) + "\n")
        self._process.stdin.flush()
        return self._answer()

    def close(self) -> None:
        """Ends the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the worker {self.name} ended with {self._process.wait()}")
        return json.loads(line)


def serve(handlers: Mapping[str, Handler]) -> None:
    """The server of a worker: answers tasks by their `kind` until standard input closes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # libraries may print; that is not an answer
    print(json.dumps(READY), file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        answer = handlers[task["kind"]](task)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({**answer, "peak_mib": peak / 1024}), file=answers, flush=True)
