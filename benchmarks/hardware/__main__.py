"""`python -m benchmarks.hardware`: compiles what has no result yet, and writes docs/hardware.md.

Each result is the JSON of one `t1 compile`, in `results/`; remove one to have it made again. All of
them take hours on two cores; arguments select those whose names contain one of them. A job that
fails leaves no result and makes the exit code 1.
"""

import argparse
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.hardware.tables import document
from t1_jax.files import write_atomically

FOLDER = Path(__file__).parent / "results"
PAGE = Path(__file__).parents[2] / "docs" / "hardware.md"


@dataclass(frozen=True)
class Job:
    """One command.

    Attributes:
        recipe: name of the config under `configs/untested`.
        topology: as `t1 compile` has it.
        stage: the stage to compile.
        largest: the number of that stage to search the largest value of; None compiles it as it is.
    """

    recipe: str
    topology: str
    stage: str
    largest: str | None = None

    @property
    def name(self) -> str:
        """Name of the result."""
        parts = [self.recipe, self.topology, self.stage]
        return "_".join([*parts, self.largest.split(".")[-1]] if self.largest else parts)

    def arguments(self) -> list[str]:
        """Arguments of `t1 compile`."""
        config = f"configs/untested/{self.recipe}.yaml"
        if self.largest is None:
            return [config, "--topology", self.topology, f"run=[{self.stage}]"]
        setting = f"stages.{self.stage}.{self.largest}"
        return [config, "--topology", self.topology, "--largest", setting]


_SLICES = {
    "qwen3-0.6b": ("v5e-8", ("s1", "s2", "s3")),
    "qwen2.5-1.5b-instruct": ("v5e-8", ("s1", "s2", "s3")),
    "qwen3-4b-instruct-2507-v5e-16": ("v5e-16", ("s1", "s2")),
    "qwen3-4b-instruct-2507": ("v5p-8", ("s1", "s2", "s3")),
    "qwen3-4b-instruct-2507-lora": ("v5e-8", ("s1", "s2", "s3")),
}
_SETTINGS = (
    ("s1", "micro_batch.rows"),
    ("s3", "rollout.max_thought_tokens"),
    ("s3", "rollout.max_rows"),
)
JOBS = [
    Job(recipe, topology, stage)
    for recipe, (topology, stages) in _SLICES.items()
    for stage in stages
] + [
    Job(recipe, topology, stage, setting)
    for recipe, (topology, stages) in _SLICES.items()
    for stage, setting in _SETTINGS
    if stage in stages
]


def results() -> Mapping[str, Any]:
    """Name -> what was found."""
    return {path.stem: json.loads(path.read_text()) for path in sorted(FOLDER.glob("*.json"))}


def main() -> None:
    """Makes what is missing, then the page."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.hardware", description=__doc__)
    parser.add_argument("names", nargs="*", help="parts of names; all jobs if none is given")
    parser.add_argument("--page", action="store_true", help="only write the page")
    options = parser.parse_args()
    failed: list[str] = []
    for job in [] if options.page else JOBS:
        path = FOLDER / f"{job.name}.json"
        chosen = not options.names or any(name in job.name for name in options.names)
        if path.exists() or not chosen:
            continue
        if not compile_job(job, path):
            failed.append(job.name)
    write_atomically(PAGE, document(PAGE.read_text(), JOBS, results()).encode())
    if failed:
        sys.exit(f"{len(failed)} failed: {', '.join(failed)}")


def compile_job(job: Job, path: Path) -> bool:
    """Compiles a job and writes its result; says so if there is none, below the errors of that."""
    command = ["-c", "from t1_jax.cli.main import main; main()", "compile", *job.arguments()]
    found = subprocess.run(
        [sys.executable, *command, "--json"], stdout=subprocess.PIPE, text=True, check=False
    )
    try:
        text = json.dumps(json.loads(found.stdout), indent=1)
    except ValueError:
        code, shown = found.returncode, " ".join(job.arguments())
        sys.stderr.write(f"t1 compile {shown}: exit code {code}, no result\n")
        return False
    write_atomically(path, (text + "\n").encode())  # also of a stage that does not fit
    return True


if __name__ == "__main__":
    main()
