"""Runs the first examples of the README with the shipped model, and compares with what they show.

Scores may differ in the last digit from machine to machine, so thoughts, documents and order count.
"""

import contextlib
import io
import os
import re
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.test_search_guide import NOTES  # noqa: E402


def without_scores(text: str) -> list[str]:
    """The lines, without their scores."""
    return [re.sub(r"-?\d\.\d{3,4}", "score", line).rstrip() for line in text.strip().splitlines()]


def check(what: str, shown: str, printed: str) -> None:
    """Fails if the README shows something else."""
    if without_scores(shown) != without_scores(printed):
        sys.exit(f"the README shows for {what}:\n{shown}\nbut it prints:\n{printed}")


def printed_by(code: str) -> str:
    """What a program prints, run in this process."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(code, {})
    return output.getvalue()


def main() -> None:
    """Compares the Python example, the first search, and the same search in Python."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^```(\w*)\n(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    first, second = (i for i, (language, _) in enumerate(blocks) if language == "python")
    check("the Python example", blocks[first + 1][1], printed_by(blocks[first][1]))

    number = next(i for i, (_, text) in enumerate(blocks) if "t1 search notes/" in text)
    line = next(line for line in blocks[number][1].splitlines() if line.startswith("t1 search"))
    with tempfile.TemporaryDirectory() as folder:
        notes = Path(folder, "notes")
        notes.mkdir()
        for name, text in NOTES.items():
            (notes / name).write_text(text)
        program = Path(sys.executable).with_name("t1")
        words = [str(program), *shlex.split(line)[1:], "--index", "index"]
        done = subprocess.run(
            words,
            cwd=folder,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "COLUMNS": "120"},
        )
        check(line, blocks[number + 1][1], done.stdout)
        with contextlib.chdir(folder):
            code = blocks[second][1].replace('"notes/"', '"notes/", index="index"')
            check("the search in Python", blocks[number + 1][1], printed_by(code))
    print("the README shows what its first examples print")


if __name__ == "__main__":
    main()
