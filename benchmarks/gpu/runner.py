"""Runs the parts in order, each in a process of its own that may fail, crash or hang."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.gpu.plan import GRACE_SECONDS, Part, limit_of
from benchmarks.gpu.report import markdown

LOG_BYTES = 20_000
"""Of each part's output that the common log keeps: its end."""


@dataclass(frozen=True, kw_only=True)
class Folders:
    """Where things lie.

    Attributes:
        pack: what travelled with the repository, unpacked.
        work: result files and logs of the parts, compiled programs, the training run.
        output: the few files to keep: `results.json`, `results.md`, `log.txt` and what the
            training part leaves.
    """

    pack: Path
    work: Path
    output: Path


def run_parts(
    parts: Sequence[Part],
    folders: Folders,
    *,
    seconds: float,
    toy: bool,
    command: Callable[[Part], Sequence[str]] | None = None,
    tell: Callable[[str], None] = print,
) -> dict[str, dict[str, Any]]:
    """Runs every part within its limit and the time that is left in all; two at a time if `toy`.

    The merged results are written after every part, and hold what a part had found before it was
    killed.

    Args:
        parts: in the order in which they run.
        folders: where things lie.
        seconds: for all parts together.
        toy: sizes for a CPU.
        command: of a part; default `python -m benchmarks.gpu.parts.<name>`.
        tell: says how it goes.

    Returns:
        By part, what it found: `status` (`passed`, `failed`, `crashed`, `out of time` or
        `not started`), `wall_s`, and the content of its result file.
    """
    folders.work.mkdir(parents=True, exist_ok=True)
    folders.output.mkdir(parents=True, exist_ok=True)
    results: dict[str, dict[str, Any]] = {}
    end = time.monotonic() + seconds
    lock = threading.Lock()

    def run(part: Part) -> None:
        left = end - time.monotonic() - GRACE_SECONDS
        found: dict[str, Any] = {"status": "not started", "wall_s": 0.0}
        if left >= 1:
            words = (command or _command)(part)
            found = _run(part, folders, words, limit_of(part, left, toy=toy), toy=toy)
        with lock:
            results[part.name] = found
            tell(f"{part.name}: {found['status']} after {found['wall_s']:.0f} s")
            _append_log(folders, part)
            _save(
                {part.name: results[part.name] for part in parts if part.name in results}, folders
            )

    # Parts share a GPU badly, and a CPU well: most of a rehearsal is compiling on one core.
    with ThreadPoolExecutor(max_workers=2 if toy else 1) as pool:
        list(pool.map(run, parts))
    return {part.name: results[part.name] for part in parts}


def _command(part: Part) -> list[str]:
    return [sys.executable, "-m", f"benchmarks.gpu.parts.{part.name}"]


def _run(
    part: Part, folders: Folders, command: Sequence[str], limit: float, *, toy: bool
) -> dict[str, Any]:
    """One part: its status, and whatever its result file holds by then."""
    result = folders.work / f"{part.name}.json"
    result.unlink(missing_ok=True)
    log = folders.work / f"{part.name}.log"
    environment = _environment(part, folders, result, limit, toy=toy)
    start = time.monotonic()
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )
        try:
            code: int | None = process.wait(timeout=limit)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            _end(process)
    status = "out of time" if code is None else {0: "passed", 1: "failed"}.get(code, "crashed")
    found: dict[str, Any] = {"status": status, "wall_s": time.monotonic() - start, "exit": code}
    found |= _read(result)
    if status == "failed" and not found.get("finished"):
        found["status"] = "crashed"  # an exception ended it, not a check that failed
    if found["status"] == "crashed":
        found["last_words"] = _tail(log, 600)
    return found


def _environment(
    part: Part, folders: Folders, result: Path, limit: float, *, toy: bool
) -> dict[str, str]:
    given = dict(os.environ)
    flags = f"{given.get('XLA_FLAGS', '')} {part.xla_flags}".strip()
    return given | {
        "XLA_FLAGS": flags,
        "T1_CHECK_RESULT": str(result),
        "T1_CHECK_PACK": str(folders.pack),
        "T1_CHECK_WORK": str(folders.work),
        "T1_CHECK_OUTPUT": str(folders.output),
        "T1_CHECK_SECONDS": f"{limit:.0f}",
        "T1_CHECK_TOY": "1" if toy else "",
    }


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ends a part and what it started: first asks, then kills."""
    for sent, patience in ((signal.SIGTERM, GRACE_SECONDS), (signal.SIGKILL, GRACE_SECONDS)):
        try:
            os.killpg(process.pid, sent)
        except ProcessLookupError:
            return
        try:
            process.wait(timeout=patience)
        except subprocess.TimeoutExpired:
            continue


def _read(result: Path) -> Mapping[str, Any]:
    if not result.exists():
        return {"finished": False, "rows": [], "facts": {}}
    return json.loads(result.read_text(encoding="utf-8"))


def _tail(log: Path, size: int) -> str:
    return log.read_bytes()[-size:].decode("utf-8", errors="replace")


def _append_log(folders: Folders, part: Part) -> None:
    log = folders.work / f"{part.name}.log"
    if log.exists():
        with (folders.output / "log.txt").open("a", encoding="utf-8") as output:
            output.write(f"==== {part.name}\n{_tail(log, LOG_BYTES)}\n")


def _save(results: Mapping[str, Mapping[str, Any]], folders: Folders) -> None:
    text = json.dumps(results, indent=1, ensure_ascii=False)
    for name, content in (("results.json", text), ("results.md", markdown(results))):
        scratch = folders.output / f"{name}.tmp"
        scratch.write_text(content, encoding="utf-8")
        os.replace(scratch, folders.output / name)
