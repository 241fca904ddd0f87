"""The runner: a part that fails, crashes or hangs takes neither others nor its results along."""

import json
import sys
import textwrap

import pytest

from benchmarks.gpu.plan import Part
from benchmarks.gpu.runner import Folders, run_parts
from tests.processes import has_ended

_RECORD = """
import os, sys, time
from pathlib import Path
from benchmarks.gpu.record import Record
record = Record(Path(os.environ["T1_CHECK_RESULT"]))
record.check("first", 1.0, 2.0)
"""
GOOD = _RECORD + "sys.exit(record.finish())"
FAILING = _RECORD + "record.check('second', float('nan'), 2.0)\nsys.exit(record.finish())"
RAISING = _RECORD + "raise OSError('no such card')"
CRASHING = _RECORD + "import signal; os.kill(os.getpid(), signal.SIGSEGV)"
HANGING = _RECORD + (
    "import signal, subprocess; signal.signal(signal.SIGTERM, signal.SIG_DFL)\n"
    "child = subprocess.Popen(['sleep', '60'])\n"
    "Path(os.environ['T1_CHECK_WORK'], 'child').write_text(str(child.pid))\ntime.sleep(60)"
)
TELLING = _RECORD + "record.fact('flags', os.environ['XLA_FLAGS'])\nsys.exit(record.finish())"


def part(name, seconds=20.0, **fields):
    return Part(name=name, group="speed", seconds=seconds, what="a test", **fields)


@pytest.fixture
def run(tmp_path):
    """Runs programs as parts; gives their results, and the folders they lie in."""

    def all_of(programs, *, seconds=60.0, parts=None):
        folders = Folders(
            pack=tmp_path / "pack", work=tmp_path / "work", output=tmp_path / "output"
        )
        found = run_parts(
            parts or [part(name) for name in programs],
            folders,
            seconds=seconds,
            toy=True,
            command=lambda one: [sys.executable, "-c", textwrap.dedent(programs[one.name])],
            tell=lambda text: None,
        )
        return found, folders

    return all_of


def test_a_crash_a_failure_and_an_exception_end_their_part_alone(run):
    found, folders = run({"a": CRASHING, "b": RAISING, "c": FAILING, "d": GOOD})
    assert [found[name]["status"] for name in "abcd"] == ["crashed", "crashed", "failed", "passed"]
    assert all(found[name]["rows"][0]["name"] == "first" for name in "abcd")
    assert "no such card" in found["b"]["last_words"]
    assert json.loads((folders.output / "results.json").read_text()) == found
    report = (folders.output / "results.md").read_text()
    assert "| c | second | nan | ≤ 2 | **no** |" in report
    assert "no such card" in (folders.output / "log.txt").read_text()


def test_a_part_that_hangs_is_ended_with_all_it_started_and_keeps_its_rows(run):
    parts = [part("slow", seconds=0.5), part("next")]
    found, folders = run({"slow": HANGING, "next": GOOD}, parts=parts)
    assert found["slow"]["status"] == "out of time"
    assert found["slow"]["wall_s"] < 15
    assert [row["name"] for row in found["slow"]["rows"]] == ["first"]
    assert found["next"]["status"] == "passed"
    child = int((folders.work / "child").read_text())
    assert has_ended(child)


def test_what_there_is_no_time_for_is_not_started(run):
    found, _ = run({"late": GOOD}, seconds=1.0)
    assert found["late"]["status"] == "not started"


def test_a_part_has_flags_of_its_own_beside_the_users(run, monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--mine=1")
    parts = [part("a", xla_flags="--its=2"), part("b")]
    found, _ = run({"a": TELLING, "b": TELLING}, parts=parts)
    assert [found[name]["facts"]["flags"] for name in "ab"] == ["--mine=1 --its=2", "--mine=1"]


def test_a_stale_result_is_not_taken_for_a_new_one(run):
    _, folders = run({"a": GOOD})
    assert (folders.work / "a.json").exists()
    found, _ = run({"a": "import sys; sys.exit(3)"})
    assert (found["a"]["status"], found["a"]["rows"]) == ("crashed", [])
