"""The page of TPU slices, and jobs that fail."""

import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from benchmarks.hardware.__main__ import JOBS, PAGE, Job, compile_job, main, results
from benchmarks.hardware.tables import document

JOB = Job("qwen3-0.6b", "v5e-8", "s1")


def answer(monkeypatch: pytest.MonkeyPatch, code: int, stdout: str) -> None:
    """Commands end with this exit code and output."""
    found = SimpleNamespace(returncode=code, stdout=stdout)
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: found)


@pytest.mark.parametrize(("code", "stdout"), [(1, ""), (-9, ""), (1, "Traceback")])
def test_a_job_that_fails_says_so_and_leaves_no_result(
    monkeypatch, tmp_path: Path, capsys, code: int, stdout: str
) -> None:
    answer(monkeypatch, code, stdout)
    assert not compile_job(JOB, tmp_path / "a.json")
    assert not (tmp_path / "a.json").exists()
    shown = capsys.readouterr().err
    assert f"configs/untested/qwen3-0.6b.yaml --topology v5e-8 run=[s1]: exit code {code}" in shown


def test_a_stage_that_does_not_fit_is_a_result(monkeypatch, tmp_path: Path) -> None:
    answer(monkeypatch, 1, '{"stages": []}')
    assert compile_job(JOB, tmp_path / "a.json")
    assert (tmp_path / "a.json").read_text() == '{\n "stages": []\n}\n'


def test_failures_end_the_command(monkeypatch, tmp_path: Path) -> None:
    answer(monkeypatch, 1, "")
    page = tmp_path / "page.md"
    page.write_text(PAGE.read_text())
    monkeypatch.setattr("benchmarks.hardware.__main__.PAGE", page)
    monkeypatch.setattr("benchmarks.hardware.__main__.FOLDER", tmp_path)
    monkeypatch.setattr("sys.argv", ["hardware", "qwen3-0.6b_v5e-8_s1"])
    with pytest.raises(SystemExit, match="2 failed: qwen3-0.6b_v5e-8_s1, qwen3-0.6b_v5e-8_s1_rows"):
        main()


def test_the_page_is_that_of_the_results() -> None:
    page = PAGE.read_text()
    assert document(page, JOBS, results()) == page
    for recipe, result in results().items():
        (stage,) = result["stages"]
        assert stage["sent_over_ideal"] >= 1, f"{recipe} sends less than the least"


def test_what_is_largest_has_a_section_once_there_are_figures() -> None:
    job = Job("qwen3-0.6b", "v5e-8", "s1", "micro_batch.rows")
    found = {"value": 64, "peak": 2**30, "tried": {"64": 2**30}}
    page = document(PAGE.read_text(), [*JOBS, job], {**results(), job.name: found})
    assert "## What is largest" not in PAGE.read_text()
    assert "\n\n## What is largest\n\n`t1 compile" in page
    assert "| qwen3-0.6b | v5e-8 | stages.s1.micro_batch.rows | 64 | 1.0 GiB | 64 |" in page
