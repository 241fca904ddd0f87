"""A worker is a process that holds one model and answers tasks, one JSON object a line.

Both sides of a comparison run as such workers and take turns, so that neither pays for the other's
memory, and drift of the machine hits both alike.
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
    """The measuring side's end of a worker process."""

    def __init__(self, name: str, command: Sequence[str]) -> None:
        self.name = name
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self._answer()

    def run(self, task: Mapping[str, Any]) -> dict[str, Any]:
        """Sends a task and waits for its measurements.

        Raises:
            RuntimeError: the worker died; its own words stand on standard error.
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
    """The worker's end: answers tasks by their `kind` until standard input closes."""
    answers, sys.stdout = sys.stdout, sys.stderr  # what libraries print must not look like answers
    print(json.dumps(READY), file=answers, flush=True)
    for line in sys.stdin:
        task = json.loads(line)
        answer = handlers[task["kind"]](task)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        print(json.dumps({**answer, "peak_mib": peak / 1024}), file=answers, flush=True)
