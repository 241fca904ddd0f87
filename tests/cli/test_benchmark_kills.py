"""An evaluation that is killed with signal 9 ends with the files of one that was not."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.cli.test_benchmark import command as command
from tests.cli.test_benchmark import folder as folder
from tests.compile_cache import CompileCache

TIMES = {"seconds", "started", "document_seconds", "evaluation_time", "date"}
TIMES_IN_TEXT = r"\d{4}-\d\d-\d\d[T ][\d:.+]+|[\d.,]+ (s|min)\b|\b\d+\.\d\d(?=</td)"


def without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: without_times(item) for key, item in value.items() if key not in TIMES}
    return [without_times(item) for item in value] if isinstance(value, list) else value


def contents(folder: Path) -> dict[str, Any]:
    """Every file, without what tells when it was written and how long that took."""
    found: dict[str, Any] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        content: Any = path.read_bytes()
        if path.suffix == ".json":
            content = without_times(json.loads(content))
        elif path.suffix in (".html", ".md"):
            content = re.sub(TIMES_IN_TEXT, "", content.decode())
        found[str(path.relative_to(folder))] = content
    return found


def test_two_kills_change_no_file(
    command: list[object], tmp_path: Path, compile_cache: CompileCache
):
    words = [*map(str, command), "--task", "pony", "--task", "aops"]
    with compile_cache.lent(kept=False) as environment:
        done = subprocess.run(
            [sys.executable, "-m", "tests.cli.kill_evaluation", "2", "3", str(tmp_path), *words],
            env=environment, cwd=Path(__file__).parents[2], capture_output=True, text=True,
        )  # fmt: skip
    assert done.returncode == 0, done.stderr
    undisturbed, killed = contents(tmp_path / "undisturbed"), contents(tmp_path / "killed")
    assert undisturbed.keys() == killed.keys()
    assert [name for name in killed if killed[name] != undisturbed[name]] == []
    assert len(killed) > 20
